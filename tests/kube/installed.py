"""A cluster on which the manifests are installed as people do it, with two nodes that have an agent each.

No kubelet runs: Nodes and the agents' Pods are objects alone. Their tokens are real, asked of the API server as a
kubelet asks for a pod's, so they name the node that the pod is bound to.
"""

from functools import cache

from tests.host import ROOT
from tests.kube.apiserver import ADMIN_TOKEN, ApiServer
from tests.kube.cluster import control_plane, kubectl
from tests.kube.server import wait_for

MANIFESTS = ROOT / "manifests"
NAMESPACE = "tortie-system"
NODES = ("n1", "n2")
BLOCKS = "/apis/tortie.dev/v1/ipblocks"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_ACCOUNTS = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
_REFUSED = 422, 403


@cache
def installed() -> ApiServer:
    """One for a process: another cluster than the one that stores are tested on."""
    server = control_plane().start("installed", prefix="/installed")
    config = server.kubeconfig(control_plane().folder / "installed.kubeconfig", {"token": ADMIN_TOKEN})
    kubectl(config, "apply", "--server-side", "-k", MANIFESTS)
    for node in NODES:
        server.make("/api/v1/nodes", {"metadata": {"name": node}})
        container = {"name": "agent", "image": "localhost/tortie:dev"}
        spec = {"serviceAccountName": "tortie-agent", "nodeName": node, "containers": [container]}
        server.make(_PODS, {"metadata": {"name": f"tortie-agent-{node}"}, "spec": spec})
    token = agent(server, "n1")
    wait_for("the account's role", lambda: server.ask("GET", BLOCKS, token=token)[0] == 200)
    # Policies are in force a moment after they are made.
    wait_for("the policies", lambda: _is_guarded(server, token))
    return server


def agent(server: ApiServer, node: str) -> str:
    """The token of a node's agent."""
    status, pod = server.ask("GET", f"{_PODS}/tortie-agent-{node}")
    assert status == 200, pod
    return _token(
        server,
        "tortie-agent",
        {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]},
    )


def unbound(server: ApiServer, account: str) -> str:
    """A token of an account that no pod has, as `kubectl create token` gives it."""
    return _token(server, account, None)


def _token(server: ApiServer, account: str, bound: dict[str, str] | None) -> str:
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}}
    token: str = server.make(f"{_ACCOUNTS}/{account}/token", request)["status"]["token"]
    return token


def _is_guarded(server: ApiServer, token: str) -> bool:
    probes = {
        BLOCKS: {
            "metadata": {"name": "10-99-0-0-26"},
            "spec": {"cidr": "10.99.0.0/26", "pool": "p", "cell": "10.99.0.0/20", "node": "another"},
        },
        "/apis/tortie.dev/v1/nodes": {"metadata": {"name": "another"}, "spec": {"machine": "m"}},
    }
    for path, body in probes.items():
        kind = "IPBlock" if path == BLOCKS else "Node"
        status, _ = server.ask("POST", path, {"apiVersion": "tortie.dev/v1", "kind": kind, **body}, token=token)
        if status not in _REFUSED:
            server.ask("DELETE", f"{path}/{body['metadata']['name']}")
            return False
    return _refuses_forged_addresses(server)


def _refuses_forged_addresses(server: ApiServer) -> bool:
    metadata = {"name": "forged", "annotations": {"cni.tortie.dev/podIPs": "[]"}}
    body = {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return bool(server.ask("POST", f"{_PODS}?dryRun=All", body)[0] in _REFUSED)
