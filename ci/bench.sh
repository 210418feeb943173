#!/bin/sh
# A bench, with the reference plugins that it needs: `make bench`, or sh ci/bench.sh cni --runs 60 --json.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
if [ ! -x /usr/lib/cni/ptp ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends containernetworking-plugins >&2
fi
name=${1:-cni}
[ $# = 0 ] || shift
exec .venv/bin/python -m "bench.$name" "$@"
