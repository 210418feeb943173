"""CHECK of a chain: true at once after ADD, whatever other plugins changed; and not blind to what nobody should change.

Debian's portmap finds fault with every pod that has IPv4 (it looks for the IPv4 rules in ip6tables), so it is left out.
"""

from pathlib import Path

import pytest

from cni.chain import ChainError, Document
from tests.chains.pods import BANDWIDTH, FIREWALL, PORTMAP, SBR, TUNING, attached, network
from tests.host import DEBIAN_PLUGINS, Host, both_plugin_sets
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
CAPABILITIES = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "bandwidth": {"ingressRate": 10**9, "egressRate": 10**9, "ingressBurst": 10**7, "egressBurst": 10**7},
    "mac": "02:00:00:00:00:42",
}
SMALLER: Document = {**TUNING, "mtu": 1300}


@both_plugin_sets
@pytest.mark.parametrize(
    "chained",
    [
        pytest.param((SMALLER,), id="another MAC and MTU"),
        pytest.param((SBR,), id="routes in other tables"),
        pytest.param((BANDWIDTH,), id="another interface"),
        pytest.param((SMALLER, BANDWIDTH, PORTMAP, SBR, FIREWALL), id="all of them"),
    ],
)
def test_check_passes_at_once_whatever_was_changed(host: Host, plugins: Path, chained: tuple[Document, ...]) -> None:
    checked = [one for one in chained if one is not PORTMAP or plugins != DEBIAN_PLUGINS]
    with attached(host, plugins, network(*checked), capabilities=CAPABILITIES) as pod:
        pod.chain.check(pod.container)


@both_plugin_sets
@pytest.mark.parametrize(
    ("command", "missing"),
    [
        pytest.param("route del default table 100", "the pod's route to 0.0.0.0/0 is missing", id="route"),
        pytest.param("link set eth0 down", "the pod's eth0 is down", id="link"),
    ],
)
def test_check_finds_what_is_missing_behind_them(host: Host, plugins: Path, command: str, missing: str) -> None:
    with attached(host, plugins, network(TUNING, SBR), capabilities=CAPABILITIES) as pod:
        pod.namespace.ip(command)
        with pytest.raises(ChainError, match=f"tortie CHECK failed: .*{missing}"):
            pod.chain.check(pod.container)
