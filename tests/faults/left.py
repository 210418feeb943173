"""Everything that an attachment makes, wherever it is kept: what must be there for each pod, and for nobody else.

Compared as a whole, before and after: a fault test names no address and no file, it says that nothing is left and
nothing is missing.
"""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from datastore.resources.ipblock import IPBlock
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store
from datastore.urls import open_store
from ipam.block import Block
from tests.host import Host
from tests.sandbox import Namespace

T = TypeVar("T")
Things = dict[str, list[str]]
_RULES = (("iptables", ("iptables-nft-save",)), ("ip6tables", ("ip6tables-nft-save",)))
_NOT_OURS = {"agent.sock", "ipam.sock", "boot-id"}
_VOLATILE = re.compile(r" (expires|used|age) \S+| linkdown| dead|\[\d+:\d+\]")
LIMIT_S = 15.0
"""Two rounds of what agents do every 5 s, and a margin."""


def everything(host: Host) -> Things:
    """What is on the node, in its state folder and in the datastore."""
    found = asyncio.run(_stored(host.datastore))
    found["links"] = [row["ifname"] for row in host.shown("link") if row["ifname"].startswith("tort")]
    found["pods"] = [
        f"{name} {row['ifname']}"
        for name in host.pods
        for row in host.shown("link", where=Namespace(name))
        if row["ifname"] != "lo"
    ]
    found["routes"] = [
        line
        for family in ("-4", "-6")
        for line in _lines(host, "ip", family, "route", "show", "table", "all")
        if "dev up0" not in line
    ]
    found["proxies"] = _lines(host, "ip", "neigh", "show", "proxy")
    found["sets"] = _lines(host, "ipset", "save")
    for name, command in _RULES:
        found[name] = [line for line in _lines(host, *command) if not line.startswith("#")]
    found["files"] = [*_files(host.state), *_files(host.place / "tombstones")]
    return {kind: sorted(rows) for kind, rows in found.items()}


def eventually_as(before: Things, host: Host, limit_s: float = LIMIT_S) -> None:
    """Return once everything is as it was; what isn't in time is told, kind by kind."""
    deadline = time.monotonic() + limit_s
    while True:
        now = everything(host)
        if now == before:
            return
        if time.monotonic() > deadline:
            raise AssertionError(_difference(before, now))
        time.sleep(0.1)


def eventually(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    """Return once a condition holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


async def _stored(datastore: str) -> Things:
    store: Store = await open_store(datastore)
    try:
        blocks = [Block.read(record) for record in (await store.list(IPBlock)).items]
        endpoints = (await store.list(WorkloadEndpoint)).items
    finally:
        await store.close()
    return {
        "addresses": [
            f"{block.address_of(int(ordinal))} of {found.handle}"
            for block in blocks
            for ordinal, found in block.record.spec.allocations.items()
        ],
        "endpoints": [f"{endpoint.name} of {endpoint.spec.container_id}" for endpoint in endpoints],
    }


def _lines(host: Host, *argv: str) -> list[str]:
    return [_VOLATILE.sub("", line).strip() for line in host.namespace.run(*argv).splitlines()]


def _files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_OURS)
    return [f"{path.relative_to(folder.parent)}: {path.read_bytes()[:120]!r}" for path in found]


def _difference(before: Things, now: Things) -> str:
    lines = []
    for kind, rows in now.items():
        left, missing = set(rows) - set(before[kind]), set(before[kind]) - set(rows)
        lines += [f"left, {kind}: {row}" for row in sorted(left)] + [f"lost, {kind}: {row}" for row in sorted(missing)]
    return "\n".join(lines) or "the same things, another number of times"
