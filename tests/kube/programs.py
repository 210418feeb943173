"""Where the programs of a Kubernetes control plane are: built by `sh ci/peers.sh kubernetes` at the versions of go/."""

import shutil
from pathlib import Path

import pytest

from tests.host import CACHE

_GO = Path(__file__).parent / "go"


def version(folder: str, module: str) -> str:
    """What go/FOLDER/go.mod says of a module."""
    lines = (line.split() for line in (_GO / folder / "go.mod").read_text().splitlines())
    return next(words[1] for words in lines if words[:1] == [module])


KUBERNETES = CACHE.expanduser() / f"kubernetes-{version('kubernetes', 'k8s.io/kubernetes')}"
APISERVER = KUBERNETES / "kube-apiserver"
KUBECTL = KUBERNETES / "kubectl"
ETCD = CACHE.expanduser() / f"etcd-{version('etcd', 'go.etcd.io/etcd/server/v3')}" / "etcd"


def missing() -> str:
    """Why no control plane can be started here; empty if one can."""
    absent = [str(path) for path in (APISERVER, KUBECTL, ETCD) if not path.exists()]
    absent += [] if shutil.which("openssl") else ["openssl"]
    return f"there is no {', '.join(absent)}: sh ci/peers.sh kubernetes" if absent else ""


needs_kubernetes = pytest.mark.skipif(bool(missing()), reason=missing())
