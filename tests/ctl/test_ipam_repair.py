"""ipam release, gc, history and split, as people type them."""

import json
from pathlib import Path

import msgspec
import pytest

from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec, Migration
from datastore.resources.ipblock import Past
from datastore.resources.value import Metadata
from tests.ctl.conftest import Ctl
from tests.ctl.test_ipam import leaking, store
from tests.ipam.cluster import (
    FIRST,
    FIRST_BLOCK,
    LONG_AGO,
    Objects,
    allocation,
    block,
    healthy,
    kubernetes_pod,
)


def configured(**changes: object) -> ClusterConfiguration:
    spec = msgspec.structs.replace(ClusterConfigurationSpec(), **changes)
    return ClusterConfiguration(metadata=Metadata(name="default"), spec=spec)


def state(ctl: Ctl, address: str) -> str:
    return str(json.loads(ctl("ipam", "show", "--ip", address, "-o", "json").out)["state"])


class TestRelease:
    @pytest.fixture(autouse=True)
    def cluster(self, tmp_path: Path) -> None:
        """Besides those who live: a pod that is gone, one that is starting, and tunnels' ends."""
        starting = allocation("starting", "node-1")
        tunnels = [allocation("", name, handle=f"tunnel/{name}", namespace="") for name in ("node-1", "node-9")]
        owners = [*leaking().by_key[FIRST_BLOCK].spec.allocations.values(), starting, *tunnels]  # type: ignore[attr-defined]
        store(tmp_path, leaking().put(block(FIRST, "node-1", *owners), kubernetes_pod("starting", "node-1")))

    def test_what_was_taken_by_hand_is_freed_by_address(self, ctl: Ctl) -> None:
        said = ctl("ipam", "release", "--ip", "10.65.0.3", "-o", "json")
        (item,) = json.loads(said.out)["items"]
        assert (said.status, item["address"], item["handle"]) == (0, "10.65.0.3", "manual/printer")
        assert state(ctl, "10.65.0.3") == "cooling"

    def test_and_by_handle(self, ctl: Ctl) -> None:
        assert ctl("ipam", "release", "--handle", "manual/printer").status == 0
        assert state(ctl, "10.65.0.3") == "cooling"

    def test_a_pods_needs_force(self, ctl: Ctl) -> None:
        said = ctl("ipam", "release", "--ip", "10.65.0.4")
        assert (said.status, "pod shop/gone's" in said.err, "--force" in said.err) == (1, True, True)
        assert state(ctl, "10.65.0.4") == "allocated"
        assert ctl("ipam", "release", "--ip", "10.65.0.4", "--force").status == 0
        assert state(ctl, "10.65.0.4") == "cooling"

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            pytest.param("10.65.0.0", "in use: an endpoint names it", id="a live pod's"),
            pytest.param("10.65.0.5", "in use: its pod is there", id="a starting pod's"),
            pytest.param("10.65.0.6", "node-1, which is there", id="the end of a living node's tunnel"),
        ],
    )
    def test_what_is_in_use_is_never_freed(self, ctl: Ctl, address: str, words: str) -> None:
        said = ctl("ipam", "release", "--ip", address, "--force")
        assert (said.status, words in said.err) == (1, True), said.err
        assert state(ctl, address) == "allocated"

    def test_the_end_of_a_departed_nodes_tunnel_is_freed(self, ctl: Ctl) -> None:
        assert ctl("ipam", "release", "--ip", "10.65.0.7", "--force").status == 0

    def test_nobodys_address_is_told(self, ctl: Ctl) -> None:
        assert ctl("ipam", "release", "--ip", "10.65.0.60").status == 1
        assert ctl("ipam", "release", "--handle", "manual/none").status == 1

    @pytest.mark.parametrize("arguments", [[], ["name", "--ip", "10.65.0.3"], ["--ip", "10.65"]])
    def test_bad_requests_are_refused(self, ctl: Ctl, arguments: list[str]) -> None:
        said = ctl("ipam", "release", *arguments)
        assert (said.status, said.err.count("\n")) == (2, 1)


def test_nothing_of_a_frozen_block_is_released(ctl: Ctl, tmp_path: Path) -> None:
    frozen = healthy().changed(FIRST_BLOCK, lambda spec: msgspec.structs.replace(spec, frozen="m1"))  # type: ignore[type-var]
    store(tmp_path, frozen)
    said = ctl("ipam", "release", "--ip", "10.65.0.3")
    assert (said.status, "is frozen" in said.err) == (1, True)
    assert state(ctl, "10.65.0.3") == "allocated"


def departed() -> Objects:
    """node-2 is gone, its pod db with it; its pod cache has been made again elsewhere under the same address."""
    return (
        leaking()
        .without("Node node-2", "WorkloadEndpoint shop/cache-c")
        .put(block("10.65.1.0/26", "node-2"), kubernetes_pod("cache", "node-1", "10.65.0.2"))
    )


class TestGC:
    def test_a_dry_run_tells_what_would_go_and_what_not_and_why(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, departed())
        said = ctl("ipam", "gc", "--dry-run", "-o", "json")
        told = json.loads(said.out)
        assert (said.status, told["graceSeconds"]) == (1, 300)
        assert [(one["kind"], one["subject"], one["taken"]) for one in told["items"]] == [
            ("endpoint", "shop/db-c", True),
            ("address", "10.65.0.4", False),
            ("address", "10.65.0.64", True),
            ("block", "10.65.1.0/26", True),
        ]
        left = told["items"][1]
        assert (left["owner"], left["reason"]) == ("pod shop/gone", "node node-1 is there and looks after it")
        assert ctl("ipam", "gc", "--dry-run").out.startswith("WHAT")

    def test_a_dry_run_takes_nothing(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, departed())
        before = ctl("datastore", "export").out.splitlines()[1:]
        ctl("ipam", "gc", "--dry-run")
        assert ctl("datastore", "export").out.splitlines()[1:] == before

    def test_what_a_departed_node_left_goes_after_the_grace(
        self, ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ctl.ipam_gc.GRACE_MIN_S", 0)
        store(tmp_path, departed().put(configured(cooldown_seconds=0)))
        said = ctl("ipam", "gc", "--grace", "0.3", "-o", "json")
        done = json.loads(said.out)["done"]
        assert (said.status, [" ".join(one.split()[:3]).rstrip(":,") for one in done]) == (
            0,
            [
                "deleted endpoint shop/db-c",
                "reclaimed 10.65.0.64 of",
                "deleted block 10.65.1.0/26",
                "deleted block 10.65.0.64/26",
            ],
        )
        assert [state(ctl, one) for one in ("10.65.0.2", "10.65.0.4")] == ["allocated", "allocated"]
        assert ctl("ipam", "gc", "--dry-run").status == 0

    def test_a_healthy_cluster_has_nothing_to_take_back(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, healthy())
        for arguments in ([], ["--dry-run"]):
            said = ctl("ipam", "gc", *arguments)
            assert (said.status, said.out) == (0, "nothing to take back\n")

    def test_nothing_goes_while_the_datastore_is_being_moved(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, departed().put(configured(migration=Migration(id="m1", to="memory:"))))
        told = json.loads(ctl("ipam", "gc", "--dry-run", "-o", "json").out)["items"]
        assert {one["reason"] for one in told} == {"nothing is taken back while the datastore is being moved"}
        assert ctl("ipam", "gc").out == "nothing to take back\n"

    def test_too_short_a_grace_is_refused(self, ctl: Ctl, tmp_path: Path) -> None:
        assert ctl("ipam", "gc", "--grace", "1").status == 2


class TestHistory:
    @pytest.fixture(autouse=True)
    def cluster(self, tmp_path: Path) -> None:
        gone = (
            Past(ordinal=0, namespace="shop", pod="old", since=LONG_AGO - 100, until=LONG_AGO - 50),
            Past(ordinal=5, handle="manual/scanner", node="node-2", since=LONG_AGO - 90, until=LONG_AGO - 10),
        )
        with_past = healthy().changed(
            FIRST_BLOCK,
            lambda spec: msgspec.structs.replace(spec, history=gone, fresh=6, released=((4, 0), (5, 0))),  # type: ignore[type-var]
        )
        store(tmp_path, with_past)

    def test_who_had_an_address_and_when(self, ctl: Ctl) -> None:
        told = json.loads(ctl("ipam", "history", "--ip", "10.65.0.0", "-o", "json").out)["items"]
        assert [(one["pod"], one["from"], one["until"]) for one in told] == [
            ("old", "2023-11-14T21:11:40Z", "2023-11-14T21:12:30Z"),
            ("web", "2023-11-14T21:13:20Z", None),
        ]
        assert sorted(told[0]) == ["address", "block", "from", "handle", "namespace", "node", "pod", "until"]
        lines = ctl("ipam", "history", "--ip", "10.65.0.0").out.splitlines()
        assert lines[1].split() == ["10.65.0.0", "shop/old", "node-1", "2023-11-14T21:11:40Z", "2023-11-14T21:12:30Z"]
        assert lines[2].split()[-1] == "now"

    def test_which_addresses_a_pod_or_a_handle_had(self, ctl: Ctl) -> None:
        assert "10.65.0.0" in ctl("ipam", "history", "--pod", "shop/old").out
        (scanner,) = json.loads(ctl("ipam", "history", "--handle", "manual/scanner", "-o", "json").out)["items"]
        assert (scanner["address"], scanner["node"]) == ("10.65.0.5", "node-2")

    def test_what_is_not_known_is_told(self, ctl: Ctl) -> None:
        said = ctl("ipam", "history", "--ip", "10.65.9.9")
        assert (said.status, said.err) == (1, "tortiectl: nothing is known of 10.65.9.9\n")
        assert json.loads(ctl("ipam", "history", "--pod", "shop/none", "-o", "json").out) == {"items": []}

    @pytest.mark.parametrize(
        "arguments", [[], ["--ip", "10.65.0.1", "--pod", "shop/web"], ["--pod", "web"], ["--ip", "x"]]
    )
    def test_bad_questions_are_refused(self, ctl: Ctl, arguments: list[str]) -> None:
        said = ctl("ipam", "history", *arguments)
        assert (said.status, said.err.count("\n")) == (2, 1)


class TestSplit:
    def test_a_pool_becomes_equal_ones_and_all_is_well(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, healthy())
        said = ctl("ipam", "split", "blue", "2")
        assert (said.status, said.out) == (0, "blue is blue-0, blue-1 now\n")
        assert ctl("get", "ippools", "-o", "name").out.split() == ["ippools/blue-0", "ippools/blue-1"]
        assert ctl("ipam", "check").out == "nothing is wrong\n"
        assert json.loads(ctl("ipam", "split", "blue", "2", "-o", "json").out) == {"pools": ["blue-0", "blue-1"]}

    @pytest.mark.parametrize(
        ("arguments", "status"),
        [(["blue", "3"], 2), (["blue", "4096"], 2), (["red", "2"], 1), (["blue", "x"], 2), (["blue"], 2)],
    )
    def test_what_makes_no_sense_is_refused(self, ctl: Ctl, tmp_path: Path, arguments: list[str], status: int) -> None:
        store(tmp_path, healthy())
        said = ctl("ipam", "split", *arguments)
        assert (said.status, said.err.count("\n")) == (status, 1), said.err
