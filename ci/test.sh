#!/bin/sh
# The README's test command: every test this machine can run, with branch coverage. The whole run is put into a network
# and mount namespace of its own with a tmpfs on /run, so that no test can touch the host's chains, routes or sockets.
# Where the kernel allows no such namespace, the tests that need one skip and say so.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
if [ -z "${TORTIE_SANDBOX:-}" ]; then
    flags=-Urnm
    [ "$(id -u)" != 0 ] || flags=-nm
    if unshare $flags true 2>/dev/null; then
        export TORTIE_SANDBOX=1
        exec unshare $flags sh -c 'mount -t tmpfs tmpfs /run && ip link set lo up && exec sh "$0" "$@"' "$(pwd)/ci/test.sh" "$@"
    fi
    echo "unshare $flags is refused here: tests that need a network namespace will skip" >&2
fi
if [ -n "${WITHOUT_COVERAGE:-}" ]; then # what is tested runs in containers
    exec .venv/bin/python -m pytest -q "$@"
fi
rm -f .coverage .coverage.*
.venv/bin/coverage run -m pytest -q "$@"
.venv/bin/coverage combine -q
.venv/bin/coverage report --skip-covered --skip-empty --precision=1 | tail -n 40
