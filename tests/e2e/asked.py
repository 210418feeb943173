"""What our programs ask of the API server, as its audit log has it (`tests.kube.whole.settings.AUDIT`).

An agent's token says on which node its pod is, so each request has its node. A watch is told when it begins, everything
else when it is answered.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.e2e.tortie import AGENT, NAMESPACE
from tests.kube.whole.cluster import Cluster

_AGENT_ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{AGENT}"
_NODE = "authentication.kubernetes.io/node-name"
WATCHED = frozenset(
    {"namespaces", "networkpolicies", "nodes", "ippools", "ipreservations", "clusterconfigurations", "pods"}
)
"""What an agent follows; it lists blocks besides, now and then."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of an agent."""

    node: str
    verb: str
    what: str
    """The kind's plural, with the subresource if there is one."""
    name: str
    status: int


class Requests:
    """Those of agents from now on."""

    def __init__(self, cluster: Cluster) -> None:
        self._log = cluster.fabric.audit_log
        self._from = self._log.stat().st_size if self._log.exists() else 0

    def all(self) -> list[Asked]:
        """What has been asked by now."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            lines = [line for line in log if line.endswith(b"\n")]
        return list(_of_agents(lines))

    def lists(self) -> Counter[tuple[str, str]]:
        """How often each node listed each kind that it follows, pages of one list counted as one."""
        return Counter((one.node, one.what) for one in self.all() if one.verb == "list" and one.what in WATCHED)

    def watches(self) -> Counter[tuple[str, str]]:
        """How often each node's watches were taken up again, by kind."""
        return Counter((one.node, one.what) for one in self.all() if one.verb == "watch" and one.status == 200)

    def per_node(self) -> Counter[str]:
        """How many each node's agent made."""
        return Counter(one.node for one in self.all())


def _of_agents(lines: list[bytes]) -> Iterator[Asked]:
    for line in lines:
        event = json.loads(line)
        verb, target = event["verb"], event.get("objectRef", {})
        counted = "ResponseStarted" if verb == "watch" else "ResponseComplete"
        if event["user"]["username"] != _AGENT_ACCOUNT:
            continue
        status = int(event.get("responseStatus", {}).get("code", 0))
        if event["stage"] != counted and not (verb == "watch" and status >= 400):
            continue
        (node,) = event["user"]["extra"][_NODE]
        what = "/".join(part for part in (target.get("resource", ""), target.get("subresource", "")) if part)
        yield Asked(node, verb, what, target.get("name", ""), status)
