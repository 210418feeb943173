"""What a controller tells: Events of what it took back and of full pools, and metrics of both."""

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from controller.copier import Copier
from controller.options import Options, parse
from controller.selected import GRACE_S
from controller.telling import Telling
from controller.view import View
from datastore.events import Event
from datastore.memory import MemoryStore
from datastore.resources.condition import Condition
from datastore.resources.ippool import IPPool, IPPoolSpec, IPPoolStatus
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Metadata
from monitoring.address import HttpAddress
from tests.controller.test_selected import API, policy

OPTIONS = Options("memory:", "c1", "kube-system", Path("/nowhere"), "INFO")


class People:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def tell(self, event: Event) -> None:
        self.heard.append(event)

    async def told(self) -> None:
        pass


def pool(used: int, *, disabled: bool = False, capacity: int = 10) -> IPPool:
    spec = IPPoolSpec(cidr="10.65.0.0/28", disabled=disabled)
    status = IPPoolStatus(capacity=capacity, used=used, free=capacity - used, blocks=1)
    return IPPool(metadata=Metadata(name="v4"), spec=spec, status=status)


def judged(kind: str, reason: str, conflicts_with: str = "") -> IPPool:
    made = pool(0)
    found = Condition(type=kind, status="False", reason=reason, message="see: tortiectl ipam show")
    status = msgspec.structs.replace(made.status, conditions=(found,), conflicts_with=conflicts_with)
    return msgspec.structs.replace(made, status=status)


@pytest.mark.parametrize(
    ("found", "reasons"),
    [
        pytest.param(pool(7), [], id="room"),
        pytest.param(pool(8), ["PoolNearlyFull"], id="little room"),
        pytest.param(pool(10), ["PoolExhausted"], id="none"),
        pytest.param(pool(10, disabled=True), [], id="disabled"),
        pytest.param(pool(0, capacity=0), [], id="never counted"),
        pytest.param(judged("Ready", "Overlaps", conflicts_with="v5"), ["PoolOverlap"], id="overlaps"),
        pytest.param(judged("Effective", "UnsupportedField"), ["UnsupportedField"], id="a field without effect"),
        pytest.param(judged("Effective", "SelectsNoNodes"), ["PoolSelectsNoNodes"], id="for no node"),
        pytest.param(judged("Ready", "Disabled"), [], id="disabled, says a condition"),
    ],
)
def test_people_hear_of_pools_that_get_full(found: IPPool, reasons: list[str]) -> None:
    people = People()
    Telling(OPTIONS, people).about_pools([found])
    assert [event.reason for event in people.heard] == reasons
    assert all("tortiectl" in event.message for event in people.heard)


def test_one_look_is_one_event_whatever_it_took_back() -> None:
    people = People()
    telling = Telling(OPTIONS, people)
    lines = [f"reclaimed 10.65.0.{number} of shop/web: node n1 departed 312 s ago" for number in range(5)]
    telling.taken_back([*lines, "deleted block 10.65.0.0/28, which is empty: node n1 departed 372 s ago"])
    telling.taken_back([])
    (event,) = people.heard
    assert (event.reason, event.warning) == ("AddressesReclaimed", False)
    assert event.message.endswith("; and 3 more, see the log")


async def test_what_is_taken_back_is_counted_by_kind_and_pools_are_read() -> None:
    telling, view = Telling(OPTIONS, People()), View()
    view.pools["v4"] = pool(7)
    telling.about(lambda: True, lambda: view, lambda: ["n1 can't be listed"])
    async with AsyncExitStack() as stack:
        await telling.listen(stack)
    telling.created("created IPPool v4: the cluster is new")
    telling.looked(0.1, ok=True, statuses=2)
    view.selected.set_policy(API)
    for now in (0.0, GRACE_S):
        telling.about_policies(view.selected, now)
    telling.taken_back(["reclaimed 10.65.0.1: nobody", "deleted endpoint shop/web: gone", "deleted block b: empty"])
    text = telling.text()[0].decode()
    for line in (
        'tortie_ipam_gc_released_total{kind="address"} 1.0',
        'tortie_ipam_gc_released_total{kind="endpoint"} 1.0',
        'tortie_ipam_gc_released_total{kind="block"} 1.0',
        'tortie_ipam_pool_allocated_addresses{pool="v4"} 7.0',
        'tortie_controller_created_total{kind="IPPool"} 1.0',
        'tortie_controller_look_duration_seconds_count{result="success"} 1.0',
        "tortie_ipam_pool_status_updates_total 2.0",
        'tortie_controller_policies{state="selects_no_pods"} 1.0',
        'tortie_controller_nodes{state="departed"} 0.0',
        "tortie_controller_leader 1.0",
        "tortie_datastore_connected 0.0",
    ):
        assert f"{line}\n" in text


def test_a_policy_that_selects_nothing_is_told_once_and_one_that_isnt_understood_is_too() -> None:
    people, view = People(), View()
    telling = Telling(OPTIONS, people)
    view.selected.set_policy(API)
    view.selected.set_policy(policy({}, ingress=[{"ports": [{"port": 80, "protocol": "GRE"}]}], name="broken"))
    for now in (0.0, GRACE_S, GRACE_S + 30):
        telling.about_policies(view.selected, now)
    assert sorted(event.reason for event in people.heard) == ["PolicySelectsNoPods", "UnsupportedField"]
    assert {event.about.name for event in people.heard} == {"only-api", "broken"}


async def test_how_far_the_copy_is_behind_is_told_as_metrics_and_as_an_event() -> None:
    now, people = 0.0, People()
    telling = Telling(OPTIONS, people)
    copier = Copier(MemoryStore(), MemoryStore(), clock=lambda: now)
    telling.about(lambda: True, View, lambda: list(copier.complaints()), lambda: copier)
    async with AsyncExitStack() as stack:
        await telling.listen(stack)
    ledger = copier.ledgers[NetworkPolicy]
    ledger.there_listed(())
    ledger.wanted_listed((NetworkPolicy(metadata=Metadata(name="deny", namespace="shop")),))
    telling.late(copier)
    assert people.heard == []
    now = 60.0
    telling.late(copier)
    assert [event.reason for event in people.heard] == ["CopyBehind"]
    copier.done["pods", "create"] += 3
    text = telling.text()[0].decode()
    for line in (
        'tortie_copy_objects{kind="networkpolicies.networking.k8s.io"} 1.0',
        'tortie_copy_pending{kind="networkpolicies.networking.k8s.io"} 1.0',
        'tortie_copy_behind_seconds{kind="networkpolicies.networking.k8s.io"} 60.0',
        'tortie_copy_behind_seconds{kind="pods"} 0.0',
        'tortie_copy_writes_total{kind="pods",verb="create"} 3.0',
        "tortie_datastore_connected 1.0",
    ):
        assert f"{line}\n" in text


def test_who_looks_at_an_object_that_isnt_copied_is_told() -> None:
    people = People()
    policy = NetworkPolicy(metadata=Metadata(name="deny", namespace="shop", uid="u"))
    Telling(OPTIONS, people).refused(policy, "spec: too large")
    (event,) = people.heard
    assert (event.reason, event.about.namespace, event.about.name) == ("NotCopied", "shop", "deny")


@pytest.mark.parametrize(
    ("datastore", "kubernetes", "copied_from"),
    [
        pytest.param("etcd://e", "kubernetes:", "kubernetes:", id="into an etcd"),
        pytest.param("kubernetes:", "kubernetes:", "", id="there is nothing to copy"),
        pytest.param("etcd://e", "", "", id="no Kubernetes"),
    ],
)
def test_where_to_copy_from_is_an_option(datastore: str, kubernetes: str, copied_from: str) -> None:
    assert parse(["--datastore", datastore, "--kubernetes", kubernetes]).kubernetes == copied_from


def test_only_a_kubernetes_api_is_copied_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--datastore", "etcd://e", "--kubernetes", "etcd://f"])
    assert "is no address of a Kubernetes API" in capsys.readouterr().err


def test_where_to_listen_is_an_option() -> None:
    assert parse(["--datastore", "memory:", "--http", ":9471"]).http == HttpAddress("", 9471)
    with pytest.raises(SystemExit):
        parse(["--datastore", "memory:", "--http", "9471"])
