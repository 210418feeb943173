"""The policy of every chain's test: pods labelled `app: guarded` hear, and speak to, one namespace outside only.

It is there before the agent starts, so no test waits until it is in force.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cni.chain import Document
from tests.host import OUTSIDE, Host, hosts

STRANGER = ("172.31.0.254", "fd31::fe")
"""Addresses outside that no policy allows."""
GUARDED = {"app": "guarded"}
_ALLOWED = [{"ipBlock": {"cidr": f"{OUTSIDE[0]}/32"}}, {"ipBlock": {"cidr": f"{OUTSIDE[1]}/128"}}]

_POLICY: Document = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "guarded", "namespace": "default"},
    "spec": {
        "podSelector": {"matchLabels": GUARDED},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": _ALLOWED}],
        "egress": [{"to": _ALLOWED}],
    },
}


@contextmanager
def host_with_policies(place: Path, *options: str) -> Iterator[Host]:
    """A host whose agent, started with these options, knows the policies from its start on."""
    with hosts(place, start=False) as host:
        host.apply(_POLICY)
        host.start(*options)
        yield host
