"""portmap behind tortie: a hostPort answers, is subject to the pod's policies, and closes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.host import portmap_side
from agent.host.doing import Doing
from cni.records import Records
from tests.chains.asking import SILENCE_S, ask, both, serving
from tests.chains.pods import PORTMAP, ChainedPod, attached, network
from tests.chains.policies import GUARDED
from tests.host import INSIDE, Host, both_plugin_sets
from tests.sandbox import Namespace, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
PORTS = ((8080, "TCP"), (8053, "UDP"))
MAPPINGS = [
    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
    {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
]
ALL = both(INSIDE, *PORTS)
snat_or_not = pytest.mark.parametrize("snat", [pytest.param(True, id="snat"), pytest.param(False, id="no-snat")])


@contextmanager
def mapped(host: Host, plugins: Path, labels: dict[str, str] | None = None, **keys: object) -> Iterator[ChainedPod]:
    """A pod that serves 80/TCP and 53/UDP, behind the host's ports 8080 and 8053."""
    conflist = network({**PORTMAP, **keys})
    with (
        attached(host, plugins, conflist, labels=labels, capabilities={"portMappings": MAPPINGS}) as pod,
        serving(pod.namespace, "80/TCP", "53/UDP"),
    ):
        yield pod


@both_plugin_sets
@snat_or_not
def test_a_host_port_answers_from_another_host_and_closes_on_del(host: Host, plugins: Path, snat: bool) -> None:
    with mapped(host, plugins, snat=snat):
        assert ask(host.outside, *ALL) == ["open"] * 4
    assert ask(host.outside, *ALL) == ["closed"] * 4, "the host itself refuses, so nothing leads to the pod any more"


@both_plugin_sets
@snat_or_not
def test_a_host_port_is_subject_to_the_policy_of_its_pod(
    host: Host, stranger: Namespace, plugins: Path, snat: bool
) -> None:
    with mapped(host, plugins, GUARDED, snat=snat):
        assert ask(host.outside, *ALL) == ["open"] * 4
        assert ask(stranger, *ALL, seconds=SILENCE_S) == ["silent"] * 4
    with mapped(host, plugins, snat=snat):
        assert ask(stranger, *ALL) == ["open"] * 4, "it is the policy that keeps the stranger out"


@both_plugin_sets
def test_a_host_port_answers_its_own_pod_whatever_its_policy(host: Host, plugins: Path) -> None:
    with mapped(host, plugins, GUARDED) as pod:
        assert ask(pod.namespace, *ALL) == ["open"] * 4


@both_plugin_sets
def test_a_host_port_answers_the_host_itself_also_by_its_loopback_address(host: Host, plugins: Path) -> None:
    with mapped(host, plugins, GUARDED):
        assert ask(host.namespace, *ALL, *both(["127.0.0.1"], *PORTS)) == ["open"] * 6


@both_plugin_sets
def test_a_pod_gets_no_further_by_a_host_port_than_its_own_policy_lets_it(host: Host, plugins: Path) -> None:
    with mapped(host, plugins), attached(host, plugins, network(), labels=GUARDED, name="other") as other:
        assert ask(other.namespace, *ALL, seconds=SILENCE_S) == ["silent"] * 4
    with mapped(host, plugins), attached(host, plugins, network(), name="other") as other:
        assert ask(other.namespace, *ALL) == ["open"] * 4


@both_plugin_sets
def test_cleanup_closes_the_host_ports_of_pods_that_see_no_del_and_no_others(host: Host, plugins: Path) -> None:
    def chains() -> set[str]:
        saved = (host.namespace.run(f"{family}-save") for family in ("iptables", "ip6tables"))
        return {line.split()[0] for text in saved for line in text.splitlines() if line.startswith(":CNI-")}

    def nat(*rules: str) -> None:
        for rule in rules:
            host.namespace.run("iptables", "-t", "nat", *rule.split())

    with mapped(host, plugins):
        mine = chains()
        nat("-N CNI-DN-others", "-A CNI-HOSTPORT-DNAT -j CNI-DN-others")
        attached_here = [(record.network, record.container_id) for record in Records(host.state).all()]
        assert len(attached_here) == 1
        portmap_side.clean(attached_here, host.namespace.runner, dry := Doing(list[str]().append, dry=True))
        assert ask(host.outside, *ALL) == ["open"] * 4
        portmap_side.clean(attached_here, host.namespace.runner, done := Doing(list[str]().append, dry=False))
        assert ask(host.outside, *ALL) == ["closed"] * 4
        assert done.done == dry.done
        assert len(done.done) == 2, "one chain of each family"
        assert chains() == {name for name in mine if "CNI-DN-" not in name} | {":CNI-DN-others"}
        nat("-D CNI-HOSTPORT-DNAT -j CNI-DN-others", "-X CNI-DN-others")
