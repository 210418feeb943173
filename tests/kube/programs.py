"""Where the programs of a Kubernetes control plane are: built by `sh ci/peers.sh kubernetes` at the version of go/."""

import shutil
from pathlib import Path

import pytest

from tests.host import CACHE
from tests.servers.etcd import VERSIONS

_GO_MOD = Path(__file__).parent / "go" / "kubernetes" / "go.mod"


def _version() -> str:
    lines = (line.split() for line in _GO_MOD.read_text().splitlines())
    return next(words[1] for words in lines if words[:1] == ["k8s.io/kubernetes"])


KUBERNETES = CACHE.expanduser() / f"kubernetes-{_version()}"
APISERVER = KUBERNETES / "kube-apiserver"
KUBECTL = KUBERNETES / "kubectl"
CONTROLLER_MANAGER = KUBERNETES / "kube-controller-manager"
SCHEDULER = KUBERNETES / "kube-scheduler"
KUBELET = KUBERNETES / "kubelet"
PROXY = KUBERNETES / "kube-proxy"
AGNHOST = KUBERNETES / "agnhost"
HELM = CACHE.expanduser() / "helm-v3.18.4" / "helm"
ETCD = VERSIONS["etcd"]


def missing() -> str:
    """Why no control plane can be started here; empty if one can."""
    absent = [str(path) for path in (APISERVER, KUBECTL, ETCD) if not path.exists()]
    absent += [] if shutil.which("openssl") else ["openssl"]
    return f"there is no {', '.join(absent)}: sh ci/peers.sh kubernetes" if absent else ""


needs_kubernetes = pytest.mark.skipif(bool(missing()), reason=missing())
needs_helm = pytest.mark.skipif(not HELM.exists(), reason=f"there is no {HELM}: sh ci/peers.sh kubernetes")
