#!/bin/sh
# Makes .venv from requirements.lock with the first Python >= 3.11 that really runs. Touches nothing outside this
# folder but apt, and that only as root and only for what is missing.
set -eu
cd "$(dirname "$0")/.."
UV_VERSION=0.13.9
export UV_SYSTEM_CERTS=1 # the machine's trust store, for networks with a proxy
PATH=$PATH:/usr/sbin:/sbin
say() { printf '%s\n' "$*" >&2; }

# A candidate is tried by running it: version managers leave shims that a user cannot execute.
find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        [ -n "$candidate" ] || continue
        "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        printf '%s' "$candidate"
        return
    done
}

python=$(find_python)
missing=
[ -n "$python" ] || missing="$missing python3 python3-venv"
for pair in iptables:iptables ipset:ipset ip:iproute2; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing$missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # shellcheck disable=SC2086  # a list of packages
        apt-get install -qq --no-install-recommends $missing >&2
        [ -n "$python" ] || python=$(find_python)
    else
        say "missing:$missing. Run: sudo apt-get install$missing"
        exit 1
    fi
fi
[ -n "$python" ] || { say "no Python 3.11 or newer runs here. Run: sudo apt-get install python3 python3-venv"; exit 1; }

[ -x .venv/bin/pip ] || { rm -rf .venv; "$python" -m venv .venv; }
[ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" = "$UV_VERSION" ] ||
    .venv/bin/pip install -q --disable-pip-version-check "uv==$UV_VERSION"
.venv/bin/uv pip install -q --python .venv/bin/python --require-hashes -r requirements.lock
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps -e .
touch .venv/.ready
