"""The agents are rolled, as an upgrade does it, while pods talk across nodes: nothing they say is lost."""

from tests.e2e import talk
from tests.e2e.documents import remove
from tests.e2e.tortie import AGENT, NAMESPACE, program_pods
from tests.kube.whole.cluster import Cluster

_ROLLED_WITHIN = "--timeout=180s"


def uids(cluster: Cluster) -> dict[str, str]:
    """Which pods the agents are, by node."""
    return {name: one["metadata"]["uid"] for name, one in program_pods(cluster, AGENT).items()}


def test_rolling_the_agents_loses_nothing(cluster: Cluster) -> None:
    before = uids(cluster)
    with talk.talking(cluster) as talks:
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", f"daemonset/{AGENT}")
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{AGENT}", _ROLLED_WITHIN)
    after = uids(cluster)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert [one.lost for one in talks] == [[], [], []]
    assert min(one.asked for one in talks) > 100
    remove(cluster, *talk.pods())
