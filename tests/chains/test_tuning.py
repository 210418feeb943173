"""tuning behind tortie: another MAC, a sysctl, an MTU, and the very next packet passes."""

from pathlib import Path

import pytest

from tests.chains.asking import Question, ask, serving
from tests.chains.pods import TUNING, attached, network
from tests.host import OUTSIDE, Host, both_plugin_sets
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
MAC = "02:00:00:00:00:42"
CAPABILITIES = {"mac": MAC}


@both_plugin_sets
def test_the_first_packet_to_a_pod_with_another_mac_arrives(host: Host, plugins: Path) -> None:
    with (
        attached(host, plugins, network(TUNING), capabilities=CAPABILITIES) as pod,
        serving(pod.namespace, "53/UDP"),
    ):
        asked = [Question(address, 53, "UDP", once=True) for address in pod.addresses]
        assert ask(host.outside, *asked) == ["open"] * 2


@both_plugin_sets
def test_the_first_packet_of_a_pod_with_another_mac_is_answered(host: Host, plugins: Path) -> None:
    with serving(host.outside, "53/UDP"), attached(host, plugins, network(TUNING), capabilities=CAPABILITIES) as pod:
        asked = [Question(address, 53, "UDP", once=True) for address in OUTSIDE]
        assert ask(pod.namespace, *asked) == ["open"] * 2


@both_plugin_sets
def test_the_mac_is_the_pods_and_the_results_and_the_hosts_end_keeps_its_own(host: Host, plugins: Path) -> None:
    with attached(host, plugins, network(TUNING), capabilities=CAPABILITIES) as pod:
        (inner,) = host.shown("link", "show", "eth0", where=pod.namespace)
        ours = {one["name"]: one["mac"] for one in pod.result["interfaces"]}
        (outer,) = host.shown("link", "show", next(name for name in ours if name.startswith("tort")))
        assert (inner["address"], ours["eth0"]) == (MAC, MAC)
        assert outer["address"] == "ee:ee:ee:ee:ee:ee"


@both_plugin_sets
def test_a_sysctl_and_an_mtu_are_the_pods_and_nobody_elses(host: Host, plugins: Path) -> None:
    def setting() -> str:
        return host.namespace.run("cat", "/proc/sys/net/core/somaxconn")

    before = setting()
    with attached(host, plugins, network({**TUNING, "mtu": 1300})) as pod:
        assert pod.namespace.run("cat", "/proc/sys/net/core/somaxconn").strip() == "321"
        assert setting() == before
        (inner,) = host.shown("link", "show", "eth0", where=pod.namespace)
        (outer,) = [link for link in host.shown("link") if link["ifname"].startswith("tort")]
        assert (inner["mtu"], outer["mtu"]) == (1300, 1500)
