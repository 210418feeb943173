#!/bin/sh
# The README's test command: every test this machine can run, with branch coverage.
set -eu
cd "$(dirname "$0")/.."
rm -f .coverage .coverage.*
.venv/bin/coverage run -m pytest -q "$@"
.venv/bin/coverage combine -q
.venv/bin/coverage report --skip-covered --skip-empty --precision=1 | tail -n 40
