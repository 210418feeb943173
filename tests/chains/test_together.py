"""All of them in one chain: a hostPort, a limit, a MAC, source-based routes, the firewall, and policy over all.

In the oldest version that all of them speak (0.4.0, of `firewall`), and in the newest.
"""

from pathlib import Path

import pytest

from tests.chains.asking import SILENCE_S, Question, ask, both, serving
from tests.chains.pods import BANDWIDTH, FIREWALL, PORTMAP, SBR, TUNING, attached, network
from tests.chains.policies import GUARDED, STRANGER
from tests.host import DEBIAN_PLUGINS, INSIDE, NEWEST_PLUGINS, OUTSIDE, Host
from tests.sandbox import Namespace, needs_sandbox

LIMITS = {"ingressRate": 10**9, "egressRate": 10**9, "ingressBurst": 10**7, "egressBurst": 10**7}
CAPABILITIES = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "bandwidth": LIMITS,
    "mac": "02:00:00:00:00:42",
}
pytestmark = [needs_sandbox, pytest.mark.kernel]
each_version = pytest.mark.parametrize(
    ("plugins", "version"),
    [
        pytest.param(path, version, id=f"{name}-{version}", marks=pytest.mark.skipif(not path.exists(), reason=reason))
        for name, path, version in (
            ("debian", DEBIAN_PLUGINS, "0.4.0"),
            ("debian", DEBIAN_PLUGINS, "1.0.0"),
            ("newest", NEWEST_PLUGINS, "0.4.0"),
            ("newest", NEWEST_PLUGINS, "1.0.0"),
            ("newest", NEWEST_PLUGINS, "1.1.0"),
        )
        for reason in (f"there is no {path}: sh ci/peers.sh plugins",)
    ],
)


@each_version
def test_a_pod_behind_all_of_them_is_there_works_and_leaves_nothing(
    host: Host, stranger: Namespace, plugins: Path, version: str
) -> None:
    conflist = network(TUNING, BANDWIDTH, PORTMAP, SBR, FIREWALL, version=version)
    with (
        serving(host.outside, "80/TCP"),
        serving(stranger, "80/TCP"),
        attached(host, plugins, conflist, labels=GUARDED, capabilities=CAPABILITIES) as pod,
        serving(pod.namespace, "80/TCP"),
    ):
        assert pod.result["cniVersion"] == version
        assert [one["mac"] for one in pod.result["interfaces"] if one["name"] == "eth0"] == [CAPABILITIES["mac"]]
        assert pod.namespace.run("cat", "/proc/sys/net/core/somaxconn").strip() == "321"
        inward = [*both(pod.addresses, (80, "TCP")), *both(INSIDE, (8080, "TCP"))]
        assert ask(host.outside, *inward) == ["open"] * 4
        assert ask(stranger, *inward, seconds=SILENCE_S) == ["silent"] * 4
        allowed, denied = (
            [Question(to, 80, source=own) for to, own in zip(there, pod.addresses, strict=True)]
            for there in (OUTSIDE, STRANGER)
        )
        assert ask(pod.namespace, *allowed) == ["open"] * 2
        assert ask(pod.namespace, *denied, seconds=SILENCE_S) == ["silent"] * 2
    assert ask(host.outside, *both(INSIDE, (8080, "TCP"))) == ["closed"] * 2
