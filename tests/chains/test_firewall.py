"""firewall behind tortie has no effect on verdicts, though its chain comes first in FORWARD and accepts what pods send.

With each iptables backend; the agent and the plugins use the same one, as on a node.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chains.asking import SILENCE_S, ask, both, serving
from tests.chains.pods import FIREWALL, attached, network
from tests.chains.policies import GUARDED, STRANGER, host_with_policies
from tests.host import OUTSIDE, Host, both_plugin_sets
from tests.sandbox import Namespace, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
PORTS = ((80, "TCP"), (53, "UDP"))
SERVED = ("80/TCP", "53/UDP")
OPEN, SILENT = ["open"] * 4, ["silent"] * 4


@pytest.fixture(scope="module", params=["nft", "legacy"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host on which `iptables` is one backend, for the plugins and for the agent."""
    backend = str(request.param)
    commands = tmp_path_factory.mktemp("commands")
    for family in ("iptables", "ip6tables"):
        for end in ("", "-save", "-restore"):
            program = shutil.which(f"{family}-{backend}{end}")
            if program is None:
                pytest.skip(f"no {family}-{backend}{end} here")
            (commands / f"{family}{end}").symlink_to(program)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(commands), prepend=os.pathsep)
        with host_with_policies(tmp_path_factory.mktemp("host"), "--iptables", backend) as found:
            yield found


@both_plugin_sets
def test_the_plugins_chain_stands_before_ours_while_the_pod_is_there(host: Host, plugins: Path) -> None:
    with attached(host, plugins, network(FIREWALL)) as pod:
        for command, address in zip(("iptables", "ip6tables"), pod.addresses, strict=True):
            first = host.namespace.run(command, "-S", "FORWARD").splitlines()[1]
            assert first.endswith("-j CNI-FORWARD")
            accepted = host.namespace.run(command, "-S", "CNI-FORWARD").splitlines()
            assert any(f"-s {address}" in rule and rule.endswith("-j ACCEPT") for rule in accepted)


@both_plugin_sets
def test_who_may_not_reach_a_pod_may_not_with_firewall_either(host: Host, stranger: Namespace, plugins: Path) -> None:
    with attached(host, plugins, network(FIREWALL), labels=GUARDED) as pod, serving(pod.namespace, *SERVED):
        assert ask(host.outside, *both(pod.addresses, *PORTS)) == OPEN
        assert ask(stranger, *both(pod.addresses, *PORTS), seconds=SILENCE_S) == SILENT


@both_plugin_sets
def test_whom_a_pod_may_not_reach_it_may_not_with_firewall_either(
    host: Host, stranger: Namespace, plugins: Path
) -> None:
    with (
        serving(host.outside, *SERVED),
        serving(stranger, *SERVED),
        attached(host, plugins, network(FIREWALL), labels=GUARDED) as pod,
    ):
        assert ask(pod.namespace, *both(OUTSIDE, *PORTS)) == OPEN
        assert ask(pod.namespace, *both(STRANGER, *PORTS), seconds=SILENCE_S) == SILENT


@both_plugin_sets
def test_what_no_policy_denies_passes_with_firewall_too(host: Host, stranger: Namespace, plugins: Path) -> None:
    with (
        serving(stranger, *SERVED),
        attached(host, plugins, network(FIREWALL)) as pod,
        serving(pod.namespace, *SERVED),
    ):
        assert ask(stranger, *both(pod.addresses, *PORTS)) == OPEN
        assert ask(pod.namespace, *both(STRANGER, *PORTS)) == OPEN
