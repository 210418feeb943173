"""Who may do what in a cluster: static tokens, and kubeconfigs that hold them.

Kubelets' users are of the node authorizer's kind, so a kubelet may what a real one may.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.kube import certs
from tests.kube.certs import Certs
from tests.kube.whole import addresses

ADMIN = "admin"
_USERS = {
    ADMIN: ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
}
"""Who: the user, and the group."""
_ALTERNATIVES = (
    *(f"DNS:{name}" for name in ("kubernetes", "kubernetes.default", "kubernetes.default.svc")),
    *(f"IP:{address}" for address in (addresses.FABRIC, addresses.API_SERVICE)),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A folder of certificates, tokens and kubeconfigs."""

    folder: Path
    certs: Certs
    nodes: tuple[str, ...]

    @property
    def tokens(self) -> Path:
        """What the API server knows users by."""
        return self.folder / "tokens.csv"

    def token(self, who: str) -> str:
        """Of a program of the control plane, of `ADMIN`, or of a node."""
        return f"{who}-token"

    def kubeconfig(self, who: str) -> Path:
        """Their kubeconfig; it is for the fabric and for every node."""
        return self.folder / f"{who}.kubeconfig"


def make(folder: Path, nodes: tuple[str, ...]) -> Credentials:
    """All of a cluster's, in a new folder."""
    made = Credentials(folder, certs.make(folder, *_ALTERNATIVES), nodes)
    made.certs.issue("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    users = _USERS | {name: (f"system:node:{name}", "system:nodes") for name in nodes}
    rows = [f'{made.token(who)},{user},{user},"{group}"\n' for who, (user, group) in users.items()]
    made.tokens.write_text("".join(rows))
    for who in users:
        made.kubeconfig(who).write_text(json.dumps(_kubeconfig(made, who)))
    return made


def _kubeconfig(made: Credentials, who: str) -> dict[str, object]:
    server = f"https://{addresses.FABRIC}:{addresses.API_PORT}"
    cluster = {"server": server, "certificate-authority": str(made.certs.authority)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": who, "user": {"token": made.token(who)}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": who}}],
        "current-context": "tests",
    }
