#!/bin/sh
# build/cni/tortie and tortie-ipam: the relay, static where that links, else dynamic; musl's compiler is taken where there
# is one (a tenth of the size, and 0.2 ms less to start); with no C compiler a script that
# runs `python -I -m cni` (-I: never import what lies in the caller's folder).
set -eu
cd "$(dirname "$0")/.."
mkdir -p build/cni
made=build/cni/.tortie
flags="-O2 -Wall -Wextra"
compiler=${CC:-$(command -v musl-gcc || command -v cc || command -v gcc || command -v clang || true)}
# shellcheck disable=SC2086  # a list of flags
if [ -n "$compiler" ] && { "$compiler" $flags -static -o "$made" cni/relay.c 2>/dev/null ||
    "$compiler" $flags -o "$made" cni/relay.c; }; then
    :
else
    echo "no C compiler works here: 'python -I -m cni' stands in for the relay" >&2
    printf '#!/bin/sh\nTORTIE_PROGRAM=${0##*/} exec "%s" -I -m cni\n' "$(pwd)/.venv/bin/python" >"$made"
    chmod 755 "$made"
fi
cp "$made" build/cni/.tortie-ipam
mv "$made" build/cni/tortie
mv build/cni/.tortie-ipam build/cni/tortie-ipam
