"""What packets meet while one change is applied, step by step: nothing that may pass before and after is lost.

Nor does anything pass that one of its ends forbids before and after. (Two changes at once may let pass for a moment
what an order of the two would: sets are filled before tables are written, and emptied after.)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kernel.walk import FORWARDED, Packet
from policy.compiler import Compiler
from policy.evaluate import Snapshot, evaluate
from policy.model import Address, Endpoint, EndpointId, Policy, PolicyKey, Protocol
from policy.verdict import Verdict
from tests.policy import random_clusters
from tests.policy.cluster import pod, policy
from tests.policy.shadow import Shadow

PORTS = ((Protocol.TCP, 1), (Protocol.UDP, 2))
OUTSIDE = random_clusters.OUTSIDE[:2]
UPLINK = "eth0"


@st.composite
def _local_pods(draw: st.DrawFn) -> dict[EndpointId, Endpoint]:
    pods = [replace(draw(random_clusters.endpoints(number)), node="n1") for number in (1, 2, 3)]
    return {one.id: one for one in pods}


_POLICIES = st.tuples(*[random_clusters.policies(f"p{number}") for number in range(3)])


CROWD = [
    (
        policy(f"{{podSelector: {{matchLabels: {{own: n{number}}}}}}}", f"q{number}", "crowd"),
        pod(f"crowd/e{number}", f"10.0.9.{number}", {"own": f"n{number}"}),
    )
    for number in range(17)
]
"""Enough other groups for a second level."""


def _crowd(compiler: Compiler) -> None:
    for own, one in CROWD:
        compiler.set_policy(own)
        compiler.set_endpoint(one)


class _Transition:
    """A node before, while, and after a change."""

    def __init__(self, before: Snapshot, crowded: bool) -> None:
        self.before = before
        self.compiler = Compiler("n1")
        self.shadow = Shadow()
        if crowded:
            _crowd(self.compiler)
        for endpoint in before.endpoints.values():
            self.compiler.set_endpoint(endpoint)
        for one in before.policies.values():
            self.compiler.set_policy(one)
        self._apply(lambda _: None)

    def to(self, after: Snapshot) -> None:
        """Compare every step with the verdicts before and after."""
        verdicts = {probe: (_verdict(self.before, probe), _verdict(after, probe)) for probe in _probes(after)}

        def look(done: str) -> None:
            if "10.0.9." in done or done.startswith(("create", "destroy")):
                return  # nobody's packets look there now; what is missing then is found missing at the end
            for probe, (old, new) in verdicts.items():
                passed = self.shadow.send(FORWARDED, _packet(after.endpoints, probe)).accepted
                if old.allowed and new.allowed:
                    assert passed, (done, probe)
                for one, other in ((old.egress, new.egress), (old.ingress, new.ingress)):
                    if not one.allowed and not other.allowed:
                        assert not passed, (done, probe)

        look("before")
        self._apply(look)
        look("after")
        assert self.shadow.agrees_with(self.compiler.desired)

    def _apply(self, look: Callable[[str], None]) -> None:
        changes = self.compiler.take_changes()
        for done in self.shadow.steps(changes, self.compiler.desired):
            look(done)


Probe = tuple[Address, Address, Protocol, int]


def _probes(snapshot: Snapshot) -> list[Probe]:
    """Every way between two pods, or a pod and outside."""
    ends = [address for endpoint in snapshot.endpoints.values() for address in endpoint.addresses]
    pairs = [(one, other) for one in (*ends, *OUTSIDE) for other in (*ends, *OUTSIDE)]
    return [
        (one, other, protocol, port)
        for one, other in pairs
        for protocol, port in PORTS
        if one.version == other.version and one != other and (one in ends or other in ends)
    ]


def _verdict(snapshot: Snapshot, probe: Probe) -> Verdict:
    source, destination, protocol, port = probe
    return evaluate(snapshot, source, destination, port, protocol)


def _packet(endpoints: Mapping[EndpointId, Endpoint], probe: Probe) -> Packet:
    source, destination, protocol, port = probe
    links = {address: endpoint.interface for endpoint in endpoints.values() for address in endpoint.addresses}
    return Packet(source, destination, protocol.word, port, links.get(source, UPLINK), links.get(destination, UPLINK))


@given(_local_pods(), _POLICIES, st.integers(1, 3), random_clusters.labels, st.booleans())
def test_a_pod_changes_its_labels(
    pods: dict[EndpointId, Endpoint], policies: tuple[Policy, ...], number: int, labels: dict[str, str], crowded: bool
) -> None:
    before = Snapshot(pods, {one.key: one for one in policies})
    transition = _Transition(before, crowded)
    changed = replace(pods[EndpointId(f"e{number}")], labels=labels)
    transition.compiler.set_endpoint(changed)
    transition.to(replace(before, endpoints={**pods, changed.id: changed}))


@given(_local_pods(), _POLICIES, random_clusters.policies("p0"), st.booleans())
def test_a_policy_says_something_else(
    pods: dict[EndpointId, Endpoint], policies: tuple[Policy, ...], changed: Policy, crowded: bool
) -> None:
    before = Snapshot(pods, {one.key: one for one in policies})
    transition = _Transition(before, crowded)
    transition.compiler.set_policy(changed)
    transition.to(replace(before, policies={**before.policies, changed.key: changed}))


@given(_local_pods(), _POLICIES, st.booleans())
def test_a_policy_goes(pods: dict[EndpointId, Endpoint], policies: tuple[Policy, ...], crowded: bool) -> None:
    before = Snapshot(pods, {one.key: one for one in policies})
    transition = _Transition(before, crowded)
    transition.compiler.remove_policy(PolicyKey("p0"))
    transition.to(replace(before, policies={one.key: one for one in policies[1:]}))


@given(_local_pods(), _POLICIES, st.booleans())
def test_other_groups_come_and_go(
    pods: dict[EndpointId, Endpoint], policies: tuple[Policy, ...], crowded: bool
) -> None:
    """The dispatch gets or loses its second level; nobody's verdict changes."""
    before = Snapshot(pods, {one.key: one for one in policies})
    transition = _Transition(before, crowded)
    if crowded:
        for _, one in CROWD:
            transition.compiler.remove_endpoint(one.id)
    else:
        _crowd(transition.compiler)
    transition.to(before)
