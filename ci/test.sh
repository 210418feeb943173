#!/bin/sh
# The README's test command: every test this machine can run, with branch coverage, in two halves side by side (much of a
# test is waiting); with arguments just what they say. Each run is put into a network and mount namespace of its own with
# a tmpfs on /run, so that no test can touch the host's chains, routes or sockets. Where the kernel allows no such
# namespace, the tests that need one skip and say so.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

halves() {
    first="tests/controller tests/ctl tests/datastore tests/ipam tests/kube tests/policy tests/simulation"
    second=
    for path in tests/*/ tests/test_*.py; do
        case " $first tests/data tests/e2e tests/__pycache__ " in *" ${path%/} "*) ;; *) second="$second ${path%/}" ;; esac
    done
    said=$(mktemp -d)
    trap 'rm -rf "$said"' EXIT
    status=0
    # What a shell runs in the background would ignore SIGINT otherwise, and so would what tests start.
    # shellcheck disable=SC2086  # lists of paths
    env --default-signal=INT sh ci/test.sh --durations=15 $first >"$said/first" 2>&1 </dev/null &
    one=$!
    # shellcheck disable=SC2086
    sh ci/test.sh --durations=15 $second </dev/null || status=$?
    wait "$one" || status=$?
    cat "$said/first"
    return $status
}

report() {
    .venv/bin/coverage combine -q
    .venv/bin/coverage report --skip-covered --skip-empty --precision=1 | tail -n 40
}

if [ -z "${TORTIE_SANDBOX:-}" ]; then
    if [ $# = 0 ] && [ -z "${WITHOUT_COVERAGE:-}" ]; then
        rm -f .coverage .coverage.*
        export TORTIE_HALF=1
        halves
        report
        exit 0
    fi
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
[ -n "${TORTIE_HALF:-}" ] || rm -f .coverage .coverage.*
.venv/bin/coverage run -m pytest -q "$@"
[ -n "${TORTIE_HALF:-}" ] || report
