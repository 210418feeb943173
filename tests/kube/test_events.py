"""Events on a real API server: as kubectl shows them, and never many."""

from pathlib import Path

from datastore.events import About, Event
from datastore.kubernetes.recorder import AGAIN_S, BURST, EACH_S, Recorder
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.kubernetes import Pod
from datastore.resources.value import Metadata
from tests.kube.apiserver import ADMIN_TOKEN, ApiServer
from tests.kube.cluster import kubectl
from tests.kube.conftest import OpenAs

WEB = About(Pod, "web", "shop", "0c5ff0a8-6d0e-4d0b-9d1e-6f9d0b8a7c11")


def emptied(server: ApiServer) -> None:
    server.ask("DELETE", "/api/v1/namespaces/shop/events")


def found(server: ApiServer) -> list[tuple[str, int]]:
    _, answer = server.ask("GET", "/api/v1/namespaces/shop/events")
    return [(one["message"], one["count"]) for one in answer["items"]]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_what_is_told_again_and_again_is_written_once_in_a_while_and_counted(
    server: ApiServer, open_as: OpenAs
) -> None:
    emptied(server)
    store, clock = await open_as({"token": ADMIN_TOKEN}), Clock()
    people = Recorder(store.cluster("tortie-agent", "node-1"), clock)
    for _ in range(10):
        people.tell(Event(WEB, "IPAllocationFailed", "no free address"))
    clock.now += AGAIN_S
    people.tell(Event(WEB, "IPAllocationFailed", "no free address"))
    await people.told()
    assert sorted(found(server)) == [("no free address", 1), ("no free address", 10)]


async def test_many_things_at_once_are_a_bounded_number_of_events(server: ApiServer, open_as: OpenAs) -> None:
    emptied(server)
    store, clock = await open_as({"token": ADMIN_TOKEN}), Clock()
    people = Recorder(store.cluster("tortie-agent", "node-1"), clock)
    for number in range(200):
        people.tell(Event(WEB, "IPAllocationFailed", f"no {number}"))
    clock.now += EACH_S
    people.tell(Event(WEB, "IPAllocationFailed", "one more"))
    await people.told()
    assert len(found(server)) == BURST + 1


async def test_what_every_node_sees_is_one_event(server: ApiServer, open_as: OpenAs) -> None:
    emptied(server)
    for node in ("node-1", "node-2"):
        people = Recorder((await open_as({"token": ADMIN_TOKEN})).cluster("tortie-agent", node), Clock())
        people.tell(Event(WEB, "UnsupportedField", "spec.ports: says nothing", shared=True))
        await people.told()
    assert len(found(server)) == 1


async def test_kubectl_describe_shows_what_is_told_of_an_object_that_was_read(
    server: ApiServer, open_as: OpenAs, tmp_path: Path
) -> None:
    server.ask("DELETE", "/api/v1/namespaces/default/events")
    store = await open_as({"token": ADMIN_TOKEN})
    made = await store.create(IPPool(metadata=Metadata(name="p"), spec=IPPoolSpec(cidr="10.65.0.0/16")))
    people = Recorder(store.cluster("tortie-controller", "c"), Clock())
    people.tell(Event(About.of(made), "PoolOverlap", "delete one of the two"))
    await people.told()
    config = server.kubeconfig(tmp_path / "admin", {"token": ADMIN_TOKEN})
    assert "delete one of the two" in kubectl(config, "describe", "ippool", "p").stdout


async def test_details_that_change_make_no_new_event(server: ApiServer, open_as: OpenAs) -> None:
    emptied(server)
    people = Recorder((await open_as({"token": ADMIN_TOKEN})).cluster("tortie-agent", "node-1"), Clock())
    for number in range(10):
        people.tell(Event(WEB, "IptablesDriftRepaired", f"rule {number}", alike=True))
    await people.told()
    assert found(server) == [("rule 0", 1)]


async def test_kubectl_shows_reason_object_and_sender(server: ApiServer, open_as: OpenAs, tmp_path: Path) -> None:
    emptied(server)
    people = Recorder((await open_as({"token": ADMIN_TOKEN})).cluster("tortie-agent", "node-1"), Clock())
    people.tell(Event(WEB, "IPAllocationFailed", "no free address"))
    await people.told()
    config = server.kubeconfig(tmp_path / "admin", {"token": ADMIN_TOKEN})
    shown = kubectl(config, "get", "events", "-n", "shop", "-o", "wide").stdout
    for word in ("Warning", "IPAllocationFailed", "pod/web", "tortie-agent, node-1", "no free address"):
        assert word in shown
