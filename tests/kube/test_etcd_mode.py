"""An agent whose datastore is an etcd, into which a real controller copies what a real API server has."""

import asyncio
import dataclasses
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.kubernetes import Pod
from datastore.resources.value import Metadata
from datastore.urls import open_store
from kernel import netns
from tests.host import BIN, POOLS
from tests.kube.apiserver import ApiServer
from tests.kube.node import NODE, KubeHost, Way, eventually, kube_hosts
from tests.kube.test_agent import ONLY_API, POLICIES, annotations, heard_from_outside, play_remote
from tests.sandbox import needs_sandbox
from tests.servers import etcd

pytestmark = [needs_sandbox, pytest.mark.kernel]
_WATCHES = re.compile(rb'^apiserver_longrunning_requests\{.*resource="(\w+)".*verb="WATCH".*\} (\d+)$', re.MULTILINE)
_KINDS = ("pods", "namespaces", "networkpolicies", "nodes")


@dataclass
class EtcdHost(KubeHost):
    """A Kubernetes node whose agent reads an etcd; `copy` starts the controller that fills it."""

    prefix: str = field(kw_only=True)
    controller: "subprocess.Popen[bytes] | None" = None

    @property
    def datastore(self) -> str:
        return etcd.shared("etcd").url(self.prefix, timeout="2")

    @property
    def kubernetes(self) -> str:
        return f"kubernetes://{self.place / 'kubeconfig'}"

    def begin(self, *options: str, **more: object) -> "subprocess.Popen[bytes]":
        return super().begin("--kubernetes", self.kubernetes, *options)

    def copy(self) -> None:
        """Start the controller, outside of the node: the way there isn't cut with the node's."""
        config = self.server.kubeconfig(self.place / "controller-kubeconfig")
        command = (BIN / "tortie-controller", "--datastore", self.datastore, "--kubernetes", f"kubernetes://{config}")
        with (self.place / "controller.log").open("ab") as log:
            self.controller = subprocess.Popen(
                [*map(str, command), "--state", str(self.place / "controller")], stdout=log, stderr=log
            )

    def copy_no_more(self) -> None:
        """End the controller, in order."""
        if self.controller is not None:
            self.controller.send_signal(signal.SIGTERM)
            self.controller.wait(20)
            self.controller = None

    def is_copied(self, name: str) -> bool:
        return name in self.in_etcd()

    def in_etcd(self) -> dict[str, Pod]:
        """The Pods of the copy."""

        async def read() -> dict[str, Pod]:
            store = await open_store(self.datastore)
            try:
                return {one.name: one for one in (await store.list(Pod)).items}
            finally:
                await store.close()

        return asyncio.run(read())

    def make_pools(self) -> None:
        async def make() -> None:
            store = await open_store(self.datastore)
            for name, cidr in POOLS.items():
                await store.create(IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr)))
            await store.close()

        asyncio.run(make())


@pytest.fixture
def idle(server: ApiServer, tmp_path: Path) -> Iterator[EtcdHost]:
    """A node and an etcd with pools; neither agent nor controller runs."""
    with kube_hosts(server, tmp_path) as plain:
        parts = {part.name: getattr(plain, part.name) for part in dataclasses.fields(plain)}
        host = EtcdHost(**parts, prefix=etcd.new_prefix())
        fd = netns.open_namespace(host.namespace.path)
        way = Way(fd, etcd.shared("etcd").members[0].port)
        try:
            host.make_pools()
            yield host
        finally:
            host.copy_no_more()
            host.stop(signal.SIGKILL)
            way.cut()
            os.close(fd)


@pytest.fixture
def node(idle: EtcdHost) -> EtcdHost:
    idle.copy()
    idle.start()
    return idle


def watches(server: ApiServer) -> dict[str, int]:
    """How many there are now, of what the controller copies."""
    _, body = server.ask("GET", "/metrics")
    found = dict.fromkeys(_KINDS, 0)
    for kind, amount in _WATCHES.findall(body):
        if kind.decode() in found:
            found[kind.decode()] += int(amount)
    return found


def test_a_pod_is_isolated_by_the_copy_before_its_add_answers(node: EtcdHost) -> None:
    node.server.make(POLICIES, ONLY_API)
    play_remote(node)
    uid, where = node.make_pod("db", labels={"app": "db"}), node.pod()
    address, _ = node.add("db", uid, where)
    assert heard_from_outside(node, address) == "silent"
    node.make_pod("api", "node-2", labels={"app": "api"})
    node.tell_status("api", "10.65.9.9", "fd65::9:9")
    eventually("the peer is let in", lambda: heard_from_outside(node, address) == "closed")
    node.patch("/api/v1/namespaces/shop/pods/api", {"metadata": {"labels": {"app": "web"}}})
    eventually("its label counts", lambda: heard_from_outside(node, address) == "silent")
    eventually("told at the API", lambda: annotations(node, "db").get("cni.tortie.dev/podIPs"))
    eventually("told in the copy", lambda: node.in_etcd()["db"].metadata.annotations.get("cni.tortie.dev/podIPs"))


def test_an_agent_watches_nothing_at_the_api_server(node: EtcdHost) -> None:
    eventually("the controller watches", lambda: watches(node.server)["networkpolicies"])
    node.stop()
    before = watches(node.server)
    node.start()
    uid, where = node.make_pod("db"), node.pod()
    node.add("db", uid, where)
    assert watches(node.server) == before


def test_without_a_controller_a_pod_starts_by_what_the_api_says_of_it(node: EtcdHost) -> None:
    node.server.make(POLICIES, ONLY_API)
    play_remote(node)
    node.make_pod("witness")
    eventually("copied", lambda: node.is_copied("witness"))
    node.copy_no_more()
    uid, where = node.make_pod("db", labels={"app": "db"}), node.pod()
    address, _ = node.add("db", uid, where)
    assert heard_from_outside(node, address) == "silent"
    assert not node.is_copied("db")


def test_no_pod_starts_without_a_policy_that_is_older_than_itself(node: EtcdHost) -> None:
    node.make_pod("witness")
    eventually("copied", lambda: node.is_copied("witness"))
    node.copy_no_more()
    node.server.make(POLICIES, ONLY_API)
    uid, where = node.make_pod("db", labels={"app": "db"}), node.pod()
    said = node.run("ADD", "db", uid, where)
    assert (said.status, said.json["code"]) == (1, 11)
    assert "has not got NetworkPolicy shop/only-api as it is now" in said.json["details"]
    assert "tortie-controller" in said.json["details"]
    assert node.owned() == {}
    node.copy()
    eventually("the next try succeeds", lambda: node.run("ADD", "db", uid, where).status == 0)
    play_remote(node)
    assert heard_from_outside(node, node.add("db", uid, where)[0]) == "silent"


def test_a_pod_that_isnt_there_gets_no_network(node: EtcdHost) -> None:
    said = node.run("ADD", "nobody", "", node.pod())
    assert (said.status, said.json["code"]) == (1, 11)
    assert "no pod shop/nobody" in said.json["details"]


def test_with_the_api_server_away_an_agent_starts_and_serves_from_the_copy(node: EtcdHost) -> None:
    uid, where = node.make_pod("web"), node.pod()
    late, place = node.make_pod("late"), node.pod()
    gone, taken = node.make_pod("gone"), node.pod()
    node.add("web", uid, where)
    node.add("gone", gone, taken)
    eventually("copied", lambda: node.is_copied("late"))
    node.stop()
    node.way.cut()
    node.start()
    assert node.heard(where, "172.30.0.1") == "closed"
    node.add("late", late, place)
    assert node.run("DEL", "gone", gone, taken).status == 0
    unheard = node.run("ADD", "unheard", "", node.pod())
    assert (unheard.status, unheard.json["code"]) == (1, 11)
    assert "the Kubernetes API" in unheard.json["details"]
    assert node.page("/readyz")[0] == 200


def test_the_machine_is_the_kubernetes_node(node: EtcdHost) -> None:
    from datastore.resources.node import Node

    uid = node.get(f"/api/v1/nodes/{NODE}")["metadata"]["uid"]

    async def read() -> Node:
        store = await open_store(node.datastore)
        try:
            return await store.get(Node, NODE)
        finally:
            await store.close()

    ours = asyncio.run(read())
    assert (ours.spec.machine, ours.spec.addresses) == (uid, ("172.30.0.1", "fd30::1"))
