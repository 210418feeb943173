#!/bin/sh
# A bench, with the reference plugins that it needs: `make bench`, or sh ci/bench.sh cni --runs 60 --json; also steps, soak.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
sh ci/peers.sh plugins >&2
sh ci/relay.sh # again: musl's compiler may be new
name=${1:-cni}
[ $# = 0 ] || shift
exec .venv/bin/python -m "bench.$name" "$@"
