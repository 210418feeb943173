#!/bin/sh
# The programs of others that tests and benches run tortie beside: CNI plugins (Debian's, and the newest release from the
# Go module proxy), cnitool, podman, containerd, iperf3, PostgreSQL, etcd, Kubernetes' programs, agnhost, helm. Debian's
# come by apt, as root; what is built (Kubernetes takes about 12 CPU minutes) is cached outside the clone, in $TORTIE_CACHE
# (/var/cache/tortie as root, else ~/.cache/tortie), and built again where it is absent.
#   sh ci/peers.sh [plugins|runtimes|stores|kubernetes]...      all of them without an argument; says where the cache is
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
PLUGINS=v1.9.1
CNITOOL=v1.3.1
HELM=v3.18.4
if [ "$(id -u)" = 0 ]; then cache=${TORTIE_CACHE:-/var/cache/tortie}; else cache=${TORTIE_CACHE:-$HOME/.cache/tortie}; fi
[ $# != 0 ] || set -- plugins runtimes stores kubernetes

packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing:$missing. Run: sudo apt-get install$missing" >&2
        return 1
    fi
    apt-get update -qq >&2 || echo "the lists of packages stay as they are" >&2
    # shellcheck disable=SC2086  # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing >&2
}

# build FOLDER MODULE@VERSION PACKAGE...: programs of a Go module in $cache/FOLDER, all of them or none
build() {
    folder=$cache/$1 module=${2%@*} version=${2#*@}
    [ ! -d "$folder" ] || return 0
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/.new.XXXXXX")
    shift 2
    for package in "$@"; do
        echo "building $module/$package@$version" >&2
        CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOBIN=$new go install "$module/$package@$version" >&2
    done
    chmod 755 "$new"
    mv "$new" "$folder"
}

# unpack FOLDER PACKAGE PROGRAM: a program out of Debian's package in $cache/FOLDER; installing it would start a server
unpack() {
    [ ! -d "$cache/$1" ] || return 0
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/.new.XXXXXX")
    (
        cd "$new"
        get="apt-get download -qq -o APT::Sandbox::User=root $2"
        $get >&2 || { apt-get update -qq >&2 && $get >&2; }
        dpkg --fsys-tarfile ./*.deb | tar -x --strip-components=3 "./usr/bin/$3"
        rm ./*.deb
    )
    chmod 755 "$new"
    mv "$new" "$cache/$1"
}

# build_from GO_FOLDER MODULE NAME=PACKAGE...: programs of the module at the version that tests/kube/go/GO_FOLDER/go.mod
# has (with go.sum, so that every byte is known), in $cache/GO_FOLDER-VERSION: those that aren't there yet
build_from() {
    source=tests/kube/go/$1
    version=$(awk -v module="$2" '$1 == module { print $2 }' "$source/go.mod")
    folder=$cache/$1-$version
    mkdir -p "$folder"
    flags="-s -w"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=1"
    done
    minor=${version#*.}
    flags="$flags -X k8s.io/component-base/version.gitMinor=${minor%%.*}"
    shift 2
    for pair in "$@"; do
        program=$folder/${pair%%=*}
        [ ! -e "$program" ] || continue
        echo "building ${pair#*=}@$version" >&2
        (
            cd "$source"
            export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -mod=readonly"
            nice go build -trimpath -ldflags "$flags" -o "$program.new" "${pair#*=}" >&2
        )
        mv "$program.new" "$program"
    done
}

for what in "$@"; do
    case $what in
    plugins)
        packages containernetworking-plugins iperf3 musl-tools
        # shellcheck disable=SC2046  # a list of packages
        build "cni-plugins-$PLUGINS" "github.com/containernetworking/plugins@$PLUGINS" $(
            for name in bridge ptp macvlan loopback; do echo "plugins/main/$name"; done
            for name in host-local static dhcp; do echo "plugins/ipam/$name"; done
            for name in portmap bandwidth tuning sbr firewall; do echo "plugins/meta/$name"; done
        )
        ;;
    runtimes)
        packages podman containerd runc busybox-static
        build "cnitool-$CNITOOL" "github.com/containernetworking/cni@$CNITOOL" cnitool
        ;;
    stores)
        # The package makes a server and starts it with the machine, unless it is told not to before it is installed.
        settings=/etc/postgresql-common/createcluster.conf
        packages postgresql-common
        [ -e /usr/lib/postgresql/15/bin/postgres ] || [ ! -w $settings ] ||
            sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' $settings
        packages postgresql-15
        unpack etcd-debian etcd-server etcd
        build_from etcd go.etcd.io/etcd/server/v3 etcd=go.etcd.io/etcd/server/v3
        ;;
    kubernetes)
        packages openssl containerd runc busybox-static iproute2 iptables nftables ipset curl netcat-openbsd
        build_from etcd go.etcd.io/etcd/server/v3 etcd=go.etcd.io/etcd/server/v3
        # shellcheck disable=SC2046  # a list of packages
        build_from kubernetes k8s.io/kubernetes agnhost=k8s.io/kubernetes/test/images/agnhost $(
            for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
                echo "$name=k8s.io/kubernetes/cmd/$name"
            done
        )
        build "helm-$HELM" "helm.sh/helm/v3@$HELM" cmd/helm
        ;;
    *) echo "plugins, runtimes, stores or kubernetes, not $what" >&2 && exit 2 ;;
    esac
done
echo "$cache"
