"""containerd 1.6 by the Container Runtime Interface: pods' sandboxes, as a kubelet has them made and removed.

containerd runs the loopback plugin beside ours, keeps ADD's result, and calls DEL again, with an empty CNI_NETNS, when
a stopped sandbox is removed.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import DEBIAN_PLUGINS, INSIDE, both_plugin_sets
from tests.runtimes import leftovers
from tests.runtimes.containerd import Containerd, containerd
from tests.runtimes.cri import Cri, Refused
from tests.runtimes.image import PORT
from tests.runtimes.machine import CONFLIST, Machine, until_empty
from tests.runtimes.programs import needs_containerd
from tests.runtimes.traffic import answers, tried

pytestmark = needs_containerd
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


@pytest.fixture
def daemon(machine: Machine, archive: Path) -> Containerd:
    machine.plugins(DEBIAN_PLUGINS, "loopback", "portmap")
    machine.conflist(PORTMAP, cniVersions=["1.0.0", "1.1.0"])
    daemon = containerd(machine)
    daemon.load(archive, "k8s.io")
    return daemon


@pytest.fixture
def cri(daemon: Containerd) -> Iterator[Cri]:
    """As a kubelet, which waits until the network is ready."""
    with Cri(daemon.socket) as cri:
        until_empty(cri.trouble)
        yield cri


def pod(machine: Machine, name: str = "web", attempt: int = 0, **changes: object) -> dict[str, Any]:
    """What a kubelet asks for a pod in the namespace `shop`."""
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "shop", "attempt": attempt}
    return {"metadata": metadata, "hostname": name, "linux": {"cgroup_parent": machine.cgroup}, **changes}


def test_the_network_is_ready_while_the_conflist_is_there(machine: Machine, cri: Cri) -> None:
    """As an installer brings it: whole, by a rename in the folder. containerd doesn't see one from another folder."""
    machine.run("mv", CONFLIST, f"{CONFLIST}.tmp")
    until_empty(lambda: not cri.trouble())
    assert cri.trouble() == "NetworkReady: NetworkPluginNotReady"
    machine.run("mv", f"{CONFLIST}.tmp", CONFLIST)
    until_empty(cri.trouble)


def test_a_pod_has_both_families_addresses_until_it_is_stopped_and_nothing_of_it_is_left(
    machine: Machine, cri: Cri
) -> None:
    sandbox = cri.run(pod(machine))
    given = cri.addresses(sandbox)
    answers(machine.host, *given)
    assert sorted(given) == sorted(leftovers.known(machine.host).endpoints)
    assert "attached shop/web" in machine.log()
    cri.stop(sandbox)
    until_empty(lambda: leftovers.known(machine.host).owners)
    cri.remove(sandbox)
    assert cri.sandboxes() == []


@both_plugin_sets
def test_a_host_port_opens_with_the_pod_and_closes_with_it(machine: Machine, cri: Cri, plugins: Path) -> None:
    machine.plugins(plugins, "loopback", "portmap")
    sandbox = cri.run(pod(machine, port_mappings=[{"container_port": PORT, "host_port": 8081}]))
    answers(machine.host, *INSIDE, port=8081)
    cri.stop(sandbox)
    assert [tried(machine.host, address, 8081) for address in INSIDE] == ["closed", "closed"]
    cri.remove(sandbox)


def test_a_pod_is_isolated_by_the_policy_that_selects_it(machine: Machine, cri: Cri) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody", "namespace": "shop"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }
    machine.host.apply(policy)
    try:
        sandbox = cri.run(pod(machine))
        given = cri.addresses(sandbox)
        isolated = [tried(machine.host, address) for address in given]
    finally:
        machine.host.ctl("delete", "networkpolicy", "nobody", "-n", "shop")
    assert isolated == ["silent", "silent"]
    answers(machine.host, *given)
    cri.stop(sandbox)
    cri.remove(sandbox)


def test_a_second_del_with_an_empty_netns_succeeds(machine: Machine, cri: Cri) -> None:
    machine.record_calls()
    sandbox = cri.run(pod(machine))
    cri.stop(sandbox)
    cri.remove(sandbox)
    calls = [(call["CNI_COMMAND"], bool(call.get("CNI_NETNS"))) for call in machine.calls()]
    assert calls == [("ADD", True), ("DEL", True), ("DEL", False)]


def test_removing_a_pods_old_sandbox_leaves_its_new_one_alone(machine: Machine, cri: Cri) -> None:
    old = cri.run(pod(machine))
    cri.stop(old)
    new = cri.run(pod(machine, attempt=1))
    cri.remove(old)
    answers(machine.host, *cri.addresses(new))
    assert len(leftovers.known(machine.host).owners) == 2
    cri.stop(new)
    cri.remove(new)


def test_a_pod_stops_while_no_agent_runs_and_nothing_is_left_once_it_is_back(machine: Machine, cri: Cri) -> None:
    sandbox = cri.run(pod(machine))
    machine.host.stop(signal.SIGKILL)
    cri.stop(sandbox)
    cri.remove(sandbox)
    assert cri.sandboxes() == []
    machine.host.start()


def test_without_an_agent_no_pod_starts_and_the_next_attempt_succeeds(machine: Machine, cri: Cri) -> None:
    machine.host.stop()
    with pytest.raises(Refused, match="the tortie agent can't be reached"):
        cri.run(pod(machine))
    assert cri.sandboxes() == []
    machine.host.start()
    sandbox = cri.run(pod(machine, attempt=1))
    answers(machine.host, *cri.addresses(sandbox))
    cri.stop(sandbox)
    cri.remove(sandbox)


def test_a_pod_that_outlived_its_runtime_is_stopped_by_the_next(machine: Machine, daemon: Containerd, cri: Cri) -> None:
    sandbox = cri.run(pod(machine))
    given = cri.addresses(sandbox)
    daemon.restart()
    answers(machine.host, *given)
    until_empty(cri.trouble)
    cri.stop(sandbox)
    cri.remove(sandbox)
