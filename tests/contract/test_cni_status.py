"""STATUS: able to ADD, or 50; 51 where pods that run are hurt too. ADD and DEL never rely on it."""

import os
import sqlite3
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.contract.test_cni_results import BOTH
from tests.contract.ways import Way, failure, refused, silent, soon
from tests.host import Host, hosts
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_TRIES = 20
_QUICK_S = 0.1
"""Five times what it may take; bench/ measures it. A shared machine's slowest moments aren't ours."""


_TOLD_S = 60.0
"""That the datastore can't be written shows at the next try; an agent tries now and then."""
_REFUSING = """#!/bin/sh
[ ! -e {flag} ] || {{ echo refused by the test >&2; exit 4; }}
exec /usr/sbin/{program} "$@"
"""


def _pool(name: str, cidr: str, **spec: object) -> dict[str, object]:
    document = {"cidr": cidr, "assignmentMode": "Manual", **spec}
    return {"apiVersion": "tortie.dev/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": document}


def test_a_node_that_can_add_says_nothing(way: Way) -> None:
    assert silent(way.call("STATUS"))
    assert silent(way.call("STATUS", None, way.config(ipam=BOTH)))
    assert way.nothing_left()


def test_it_is_quick(relay: Way) -> None:
    took = []
    for _ in range(_TRIES):
        start = time.monotonic()
        assert silent(relay.call("STATUS"))
        took.append(time.monotonic() - start)
    assert statistics.median(took) < _QUICK_S, took


def test_it_needs_no_variables_and_minds_none(way: Way) -> None:
    assert silent(way.call("STATUS", CNI_NETNS="dummy", CNI_IFNAME="dummy", CNI_CONTAINERID=""))


@pytest.mark.parametrize("pools", ["nosuch", "192.0.2.0/24"], ids=["a name", "a CIDR"])
def test_a_family_without_a_pool_is_not_available(way: Way, pools: str) -> None:
    ipam = {"type": "tortie-ipam", "ipv4_pools": [pools]}
    refused(way.call("STATUS", None, way.config(ipam=ipam)), 50, pools)


@pytest.mark.parametrize("way_id", ["relay", "alone"])
def test_a_pool_without_an_address_left_is_not_available(tmp_path: Path, way_id: str) -> None:
    with hosts(tmp_path, start=False) as host:
        host.apply(_pool("small", "10.66.0.0/30", blockSize=30))
        if way_id == "relay":
            host.start()
        way = Way("relay" if way_id == "relay" else "alone", host)
        config = way.config(ipam={"type": "tortie-ipam", "ipv4_pools": ["small"]})
        assert silent(way.call("STATUS", None, config))
        for _ in range(4):
            way.add(way.pod(), config)
        refused(way.call("STATUS", None, config), 50)
        assert silent(way.call("STATUS")), "other pools have some"
        assert failure(way.call("ADD", way.pod(), config))["code"] == 11
        way.close()


@contextmanager
def _locked(host: Host) -> Iterator[None]:
    """Another program holds the datastore's write lock."""
    with closing(sqlite3.connect(host.database, isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        yield
        held.execute("ROLLBACK")


@pytest.mark.parametrize("way_id", ["relay", "alone"])
def test_a_datastore_that_cannot_be_written_is_not_available(tmp_path: Path, way_id: str) -> None:
    with hosts(tmp_path, start=way_id == "relay") as host:
        way = Way("relay" if way_id == "relay" else "alone", host)
        way.add(way.pod())
        with _locked(host):
            # Nobody can know before a write was tried.
            assert failure(way.call("ADD", way.pod()))["code"] == 11
            assert soon(lambda: way.call("STATUS").status, 1, _TOLD_S) == 1
            refused(way.call("STATUS"), 50)
        assert soon(lambda: way.call("STATUS").status, 0) == 0
        assert silent(way.call("STATUS"))
        way.close()


def test_an_agent_that_has_not_read_the_datastore_is_not_available(tmp_path: Path) -> None:
    with hosts(tmp_path, start=False) as host:
        host.database.rename(tmp_path / "kept.db")
        host.database.mkdir()
        way = Way("relay", host)
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(host.start)
            refused(way.call("STATUS"), 50)
            refused(way.call("ADD", way.pod()), 11)
            assert silent(way.call("DEL", way.pod()))
            host.database.rmdir()
            tmp_path.joinpath("kept.db").rename(host.database)
            starting.result()
        assert silent(way.call("STATUS"))
        way.add(way.pod())
        way.close()


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[tuple[Host, Path]]:
    """A node where iptables-restore fails as soon as a file is there."""
    folder, flag = tmp_path / "bin", tmp_path / "refuse"
    folder.mkdir()
    for name in ("iptables", "ip6tables"):
        for backend in ("nft", "legacy"):
            program = f"{name}-{backend}-restore"
            (folder / program).write_text(_REFUSING.format(flag=flag, program=program))
            (folder / program).chmod(0o755)
    with hosts(tmp_path, start=False) as host:
        host.start(env={"PATH": f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin"})
        yield host, flag


def test_rules_that_cannot_be_applied_hurt_pods_that_run(refusing: tuple[Host, Path]) -> None:
    host, flag = refusing
    way = Way("relay", host)
    pod = way.pod()
    way.add(pod, way.config(policy={"type": "k8s"}))
    flag.touch()
    host.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny", "namespace": "default"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        }
    )
    assert soon(lambda: way.call("STATUS").status, 1) == 1
    refused(way.call("STATUS"), 51)
    assert silent(way.call("DEL", pod)), "a DEL doesn't rely on STATUS"
    flag.unlink()
    assert soon(lambda: way.call("STATUS").status, 0) == 0
    way.close()
