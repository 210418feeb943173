"""ipam show and check: straight on the datastore, agents or not."""

import asyncio
import json
import time
from pathlib import Path

import msgspec
import pytest

from datastore.resources.ippool import COUNT_MAX
from datastore.resources.ipreservation import IPReservation, IPReservationSpec
from datastore.resources.value import Metadata
from datastore.urls import open_store
from tests.ctl.conftest import Ctl
from tests.ipam.cluster import (
    FIRST,
    FIRST_BLOCK,
    LONG_AGO,
    SECOND_BLOCK,
    Objects,
    allocation,
    block,
    endpoint,
    healthy,
    pool,
)


def store(tmp_path: Path, objects: Objects) -> None:
    async def write() -> None:
        opened = await open_store(f"sqlite://{tmp_path}/store.db")
        for one in objects.by_key.values():
            await opened.create(one)
        await opened.close()

    asyncio.run(write())


def leaking(since: float = LONG_AGO) -> Objects:
    """With one more owner, gone, in the first block."""
    gone = allocation("gone", "node-1", since=since)
    owners = healthy().by_key[FIRST_BLOCK].spec.allocations.values()  # type: ignore[attr-defined]
    return healthy().put(block(FIRST, "node-1", *owners, gone))


class TestCheck:
    def test_a_healthy_cluster_is_told_so(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, healthy())
        assert (ctl("ipam", "check").status, ctl("ipam", "check").out) == (0, "nothing is wrong\n")
        assert json.loads(ctl("ipam", "check", "-o", "json").out) == {"items": [], "errors": 0, "warnings": 0}

    def test_what_is_wrong_is_told_with_what_to_do_and_makes_it_exit_1(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, leaking())
        said = ctl("ipam", "check", "-o", "json")
        assert said.status == 1
        (item,) = json.loads(said.out)["items"]
        assert sorted(item) == ["block", "kind", "message", "remedy", "severity", "subject"]
        assert (item["kind"], item["subject"], item["block"]) == ("Leaked", "10.65.0.4", "10-65-0-0-26")
        assert "pod shop/gone on node node-1" in item["message"]

    def test_a_warning_alone_is_told_and_exits_0(self, ctl: Ctl, tmp_path: Path) -> None:
        store(tmp_path, leaking(since=time.time()))
        said = ctl("ipam", "check")
        assert (said.status, said.out.startswith("warning: Leaked: 10.65.0.4 is allocated to pod shop/gone")) == (
            0,
            True,
        )

    def test_an_empty_datastore_has_nothing_wrong(self, ctl: Ctl, tmp_path: Path) -> None:
        assert ctl("ipam", "check").status == 0


class TestShow:
    @pytest.fixture(autouse=True)
    def cluster(self, tmp_path: Path) -> None:
        released = healthy().by_key[SECOND_BLOCK]
        spec = msgspec.structs.replace(
            released.spec,  # type: ignore[attr-defined]
            released=((1, LONG_AGO), (2, time.time())),
            fresh=3,
        )
        reserved = IPReservationSpec(reserved_cidrs=("10.65.0.32/28", "10.65.0.40", "10.65.0.1", "10.65.255.0/24"))
        store(
            tmp_path,
            healthy().put(
                pool(),
                pool("six", "fd65::/48"),
                msgspec.structs.replace(released, spec=spec),
                IPReservation(metadata=Metadata(name="kept"), spec=reserved),
            ),
        )

    def test_pools_are_counted(self, ctl: Ctl) -> None:
        blue, six = json.loads(ctl("ipam", "show", "-o", "json").out)["items"]
        assert blue == {
            "name": "blue",
            "cidr": "10.65.0.0/16",
            "blockSize": 26,
            "disabled": False,
            "capacity": 65536,
            "used": 5,
            "free": 65536 - 5 - 16 - 256,
            "reserved": 16 + 256,  # .1 has an owner
            "cooling": 1,
            "borrowed": 1,
            "blocks": 2,
            "blocksAtMost": 1024,
        }
        assert (six["capacity"], six["free"], six["blocks"]) == (COUNT_MAX, COUNT_MAX, 0)

    def test_the_table_of_pools_is_short(self, ctl: Ctl) -> None:
        lines = ctl("ipam", "show").out.splitlines()
        assert lines[0].split() == ["POOL", "CIDR", "BLOCKS", "SIZE", "USED", "FREE", "USED%", "BORROWED", "RESERVED"]
        assert lines[2].split() == ["six", "fd65::/48", "0/2^53+", "2^53+", "0", "2^53+", "0%", "0", "0"]

    def test_blocks_are_counted(self, ctl: Ctl) -> None:
        first, second = json.loads(ctl("ipam", "show", "--blocks", "-o", "json").out)["items"]
        assert first == {
            "name": "10-65-0-0-26",
            "cidr": FIRST,
            "pool": "blue",
            "node": "node-1",
            "machine": "machine-node-1",
            "ready": True,
            "frozen": False,
            "size": 64,
            "used": 4,
            "free": 64 - 4 - 16,
            "reserved": 16,
            "cooling": 0,
            "borrowed": 1,
        }
        assert (second["used"], second["cooling"], second["free"]) == (1, 1, 63)
        assert "10.65.0.64/26" in ctl("ipam", "show", "--blocks").out

    @pytest.mark.parametrize(
        ("address", "status", "state", "words"),
        [
            pytest.param("10.65.0.0", 0, "allocated", "pod shop/web has it since", id="a pod's"),
            pytest.param("10.65.0.1", 0, "allocated", "pod shop/api has it", id="a pod's, and reserved"),
            pytest.param("10.65.0.2", 0, "allocated", "borrowed by node node-2", id="borrowed"),
            pytest.param("10.65.0.3", 0, "allocated", "manual/printer has it", id="taken by hand"),
            pytest.param("10.65.0.9", 0, "free", "block 10.65.0.0/26 of node node-1", id="free in a block"),
            pytest.param("10.65.0.65", 0, "free", "free; pool blue", id="released and cool"),
            pytest.param("10.65.0.66", 0, "cooling", "not before", id="just released"),
            pytest.param("10.65.9.9", 0, "free", "no block has it yet", id="in no block"),
            pytest.param("fd65::1", 0, "free", "pool six", id="IPv6"),
            pytest.param("10.65.0.33", 0, "reserved", "IPReservation kept", id="reserved, in a block"),
            pytest.param("10.65.255.3", 0, "reserved", "IPReservation kept", id="reserved, in no block"),
            pytest.param("192.168.0.1", 1, "outside", "outside every pool", id="outside every pool"),
        ],
    )
    def test_an_address_is_told_what_it_is(self, ctl: Ctl, address: str, status: int, state: str, words: str) -> None:
        said = ctl("ipam", "show", "--ip", address)
        assert (said.status, said.out.startswith(f"{address}: "), words in said.out) == (status, True, True), said.out
        told = json.loads(ctl("ipam", "show", "--ip", address, "-o", "json").out)
        assert (told["address"], told["state"]) == (address, state)

    def test_an_owner_is_told_whole(self, ctl: Ctl) -> None:
        told = json.loads(ctl("ipam", "show", "--ip", "10.65.0.2", "-o", "json").out)
        assert told["owner"] == {
            "handle": "podnet:c-cache:eth0",
            "id": allocation("cache", "node-2").id,
            "namespace": "shop",
            "pod": "cache",
            "uid": "",
            "node": "node-2",
            "since": "2023-11-14T21:13:20Z",
        }
        assert (told["node"], told["borrowed"]) == ("node-1", True)

    def test_a_pod_has_its_addresses(self, ctl: Ctl) -> None:
        assert "10.65.0.64" in ctl("ipam", "show", "--pod", "shop/db").out
        (told,) = json.loads(ctl("ipam", "show", "--pod", "shop/db", "-o", "json").out)["items"]
        assert told["address"] == "10.65.0.64"
        none = ctl("ipam", "show", "--pod", "shop/none")
        assert (none.status, none.err.startswith("tortiectl: shop/none has no address")) == (1, True)

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param(["--ip", "10.65.0"], id="no address"),
            pytest.param(["--pod", "db"], id="no pod"),
            pytest.param(["--ip", "10.65.0.1", "--blocks"], id="two questions"),
        ],
    )
    def test_bad_questions_are_refused(self, ctl: Ctl, arguments: list[str]) -> None:
        said = ctl("ipam", "show", *arguments)
        assert (said.status, said.err.count("\n")) == (2, 1)


def test_the_datastore_of_a_running_agent_is_read_without_it(ctl: Ctl, tmp_path: Path) -> None:
    """And an endpoint that has no address is found, by the command alone."""
    store(tmp_path, healthy().put(endpoint("ghost", "node-2", "10.65.7.7")))
    said = ctl("ipam", "check")
    assert (said.status, "NotAllocated: WorkloadEndpoint shop/ghost-c says it has 10.65.7.7" in said.out) == (1, True)
