"""The policies of every chain's test: pods labelled `app: guarded` hear, and speak to, one address outside only.

They are there before the agent starts, so no test waits for one to be in force.
"""

from cni.chain import Document
from tests.host import OUTSIDE

STRANGER = ("172.31.0.254", "fd31::fe")
"""Addresses outside that no policy allows."""
GUARDED = {"app": "guarded"}
_ALLOWED = [{"ipBlock": {"cidr": f"{OUTSIDE[0]}/32"}}, {"ipBlock": {"cidr": f"{OUTSIDE[1]}/128"}}]

POLICIES: tuple[Document, ...] = (
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "guarded", "namespace": "default"},
        "spec": {
            "podSelector": {"matchLabels": GUARDED},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": _ALLOWED}],
            "egress": [{"to": _ALLOWED}],
        },
    },
)
