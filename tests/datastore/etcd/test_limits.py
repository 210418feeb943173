"""What etcd doesn't take: requests that are too large, and any at all once its space is used up."""

import asyncio
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from datastore.errors import Invalid, StoreError, Unavailable, Unknown
from datastore.resources.ipblock import IPBlock
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Store
from tests.datastore.etcd.opened import opened
from tests.datastore.samples import ip_block, policy
from tests.servers.etcd import Etcd, program

QUOTA = 4 << 20


def heavy(name: str, size: int = 500_000) -> NetworkPolicy:
    made = policy(name)
    metadata = msgspec.structs.replace(made.metadata, annotations={"big": "x" * size})
    return msgspec.structs.replace(made, metadata=metadata)


async def names(store: Store) -> set[str]:
    return {item.name for item in (await store.list(NetworkPolicy)).items}


@pytest.mark.parametrize("limit", [400_000, 1_500_000], ids=["etcd's", "gRPC's"])
async def test_an_object_larger_than_etcd_takes_is_invalid(version: str, tmp_path: Path, limit: int) -> None:
    flags = (f"--max-request-bytes={limit if limit < 500_000 else 1000}",)
    with Etcd(program(version), tmp_path / "etcd", flags=flags) as etcd:
        async with opened(etcd.url()) as store:
            with pytest.raises(Invalid, match="max-request-bytes"):
                await store.create(heavy("db", size=500_000 if limit < 500_000 else 1_000_000))
            assert await names(store) == set()


async def test_more_pointers_than_a_transaction_takes_is_invalid(url: str) -> None:
    nodes = tuple(f"n{number}" for number in range(130))
    async with opened(url) as store:
        block = ip_block(str(ip_network("10.65.0.0/24")), node=nodes[0], borrowers=nodes)
        with pytest.raises(Invalid, match="max-txn-ops"):
            await store.create(block)
        assert (await store.list(IPBlock)).items == ()


async def test_of_what_is_written_until_space_is_used_up_the_truth_is_told(version: str, tmp_path: Path) -> None:
    """The writes that cross the quota together are refused, and some are there all the same."""
    with Etcd(program(version), tmp_path / "etcd", flags=(f"--quota-backend-bytes={QUOTA}",)) as etcd:
        async with opened(etcd.url("t")) as store:
            first = await store.create(heavy("first", 1000))
            told: dict[str, NetworkPolicy | BaseException] = {}
            while not any(isinstance(one, StoreError) for one in told.values()):
                batch = [f"p{len(told) + number}" for number in range(6)]
                tries = (store.create(heavy(name)) for name in batch)
                told.update(zip(batch, await asyncio.gather(*tries, return_exceptions=True), strict=True))
            there = {item.name: item for item in (await store.list(NetworkPolicy)).items}
            for name, one in told.items():
                match one:
                    case NetworkPolicy():
                        assert there[name] == one
                    case Unavailable():
                        assert name not in there
                    case _:
                        assert isinstance(one, Unknown)
                        assert name in there
            for write in (store.update(first), store.delete(first), store.create(policy("small"))):
                with pytest.raises(Unavailable, match="defragment"):
                    await write
            assert await store.get(NetworkPolicy, "first", "shop") == first

            etcd.remove("/t/object/networkpolicies.networking.k8s.io/shop/p")
            etcd.free_space()
            await store.update(first)
