"""The rules give every packet the verdict of `evaluate` (invariant 4), on every node, in both families."""

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.evaluate import Snapshot, evaluate
from policy.model import Address, Protocol
from tests.policy import random_clusters
from tests.policy.nodes import Nodes

_PORTS = st.tuples(st.sampled_from(Protocol), st.sampled_from([*random_clusters.NUMBERS, 4789]))


@settings(max_examples=3 * settings().max_examples)
@given(random_clusters.snapshots(), st.sets(_PORTS, min_size=2, max_size=2))
def test_rules_and_evaluate_agree(snapshot: Snapshot, ports: set[tuple[Protocol, int]]) -> None:
    nodes = Nodes(random_clusters.NODES)
    nodes.update(snapshot)
    ends = _ends(snapshot)
    for source in ends:
        for destination in ends:
            if source.version == destination.version:
                for protocol, port in sorted(ports, key=str):
                    verdict = evaluate(snapshot, source, destination, port, protocol)
                    passed = nodes.connects(source, destination, port, protocol)
                    assert passed is verdict.allowed, (source, destination, protocol, port, verdict.reason)


def _ends(snapshot: Snapshot) -> list[Address]:
    pods = [address for endpoint in snapshot.endpoints.values() for address in endpoint.addresses]
    nodes = [address for addresses in random_clusters.NODE_ADDRESSES.values() for address in addresses]
    return [*pods, *nodes, *random_clusters.OUTSIDE]
