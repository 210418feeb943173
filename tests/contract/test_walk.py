"""The first walk: a pod comes, is there, and goes, with the plugin executed as a process beside a real agent."""

from pathlib import Path

import pytest

from lab.probe import probe
from tests.host import hosts
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
CONFIG = {"cniVersion": "1.0.0", "name": "net", "type": "tortie", "ipam": {"type": "tortie-ipam"}}


def test_a_pod_is_attached_reachable_from_its_host_and_detached(tmp_path: Path) -> None:
    with hosts(tmp_path) as host:
        pod = host.pod()
        added = host.call("ADD", CONFIG, netns=pod.path)
        assert added.status == 0, added.out
        address = added.json["ips"][0]["address"].partition("/")[0]
        assert host.namespace.inside(lambda: probe(address, 9, "TCP", 2.0)) == "closed"
        listed = host.ctl("ipam", "list", "--state", str(host.state))
        assert (listed.status, address in listed.out) == (0, True), listed.err
        deleted = host.call("DEL", CONFIG, netns=pod.path)
        assert (deleted.status, deleted.out) == (0, "")
        assert host.shown("route", "show", address) == []
