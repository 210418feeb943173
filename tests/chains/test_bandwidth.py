"""bandwidth behind tortie: iperf3 is held to the limit in both directions."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chains.asking import until
from tests.chains.pods import BANDWIDTH, attached, network
from tests.host import Host, both_plugin_sets
from tests.sandbox import Namespace, needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
LIMIT = 20_000_000
"""Bits a second."""
LIMITS = {"ingressRate": LIMIT, "egressRate": LIMIT, "ingressBurst": 400_000, "egressBurst": 400_000}
"""A burst is in bits too: 50 kB, thirty packets, which the rate takes 20 ms for."""
PORT = 5201


@both_plugin_sets
def test_traffic_is_held_to_the_limit_in_both_directions(host: Host, plugins: Path) -> None:
    with attached(host, plugins, network(BANDWIDTH), capabilities={"bandwidth": LIMITS}) as pod:
        four, six = pod.addresses
        # Without the limit it is some thousand times as much; how near a busy machine comes to it says nothing.
        assert 0 < measured(host.outside, pod.namespace, four) < 1.15 * LIMIT
        assert 0 < measured(host.outside, pod.namespace, six, "--reverse") < 1.15 * LIMIT


@contextmanager
def iperf_server(where: Namespace) -> Iterator[None]:
    """iperf3 that serves one measurement: one that served another just now may still be busy with it, and refuses."""
    command = ("ip", "netns", "exec", where.name, "iperf3", "--server", "--one-off", "--port", str(PORT))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            assert until(True, lambda: f":{PORT}" in where.run("ss", "-ltnH"))
            yield
        finally:
            server.send_signal(signal.SIGTERM)


def measured(where: Namespace, server: Namespace, address: str, *options: str) -> float:
    """Bits a second that arrive, measured for three seconds once the flow has settled."""
    command = ("iperf3", "--client", address, "--port", str(PORT), "--time", "3", "--omit", "1", "--json", *options)
    with iperf_server(server):
        said = json.loads(where.run(*command))
    assert "error" not in said
    return float(said["end"]["sum_received"]["bits_per_second"])
