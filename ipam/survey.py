"""Reading what an audit needs, and looking again at what it finds, while pods come and go.

    1. list every kind, one after the other: what was read isn't one moment
    2. audit; nothing found is the answer at once
    3. what was found is read again, each time a little later; only what every look finds is reported

A look reads no more than the cells, namespaces and nodes that the findings are about.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from datastore.errors import NotFound
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration, ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.kubernetes import Pod
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Reader, Where
from ipam import claims
from ipam.audit import audit
from ipam.claims import Claims
from ipam.findings import Finding, Scope
from ipam.observed import Observed

R = TypeVar("R", bound=Resource)

LOOKS = 6
BETWEEN_S = 0.5
"""Together more than an ADD or a DEL leaves things between two writes."""
_SMALL = 64
"""Parts that are listed one by one; beyond, the whole kind is."""


async def found_in(
    store: Reader,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Finding]:
    """What is wrong at every one of several looks; the first that finds nothing is the last.

    Raises:
        StoreError: the store can't be read.
    """
    findings = audit(await read(store), clock())
    for _ in range(LOOKS - 1):
        if not findings:
            break
        await pause(BETWEEN_S)
        again = audit(await _read_again(store, findings), clock())
        known = {one.key for one in findings}
        findings = [one for one in again if one.key in known]
    return findings


async def read(store: Reader) -> Observed:
    """Everything there is.

    Raises:
        StoreError: the store can't be read.
    """
    return Observed.of(
        (await store.list(IPBlock)).items,
        (await store.list(IPPool)).items,
        (await store.list(Node)).items,
        await claims.read(store),
        await configuration(store),
    )


async def configuration(store: Reader) -> ClusterConfigurationSpec:
    """The cluster's settings; the defaults where there is no ClusterConfiguration.

    Raises:
        StoreError: the store can't be read.
    """
    try:
        return (await store.get(ClusterConfiguration, NAME)).spec
    except NotFound:
        return ClusterConfigurationSpec()


async def _read_again(store: Reader, findings: list[Finding]) -> Observed:
    scope = Scope()
    for one in findings:
        scope |= one.scope
    blocks = await _parts(store, IPBlock, ("cell", scope.cells), ("node", scope.nodes))
    pods = await _parts(store, Pod, ("namespace", scope.namespaces))
    return Observed.of(
        blocks,
        (await store.list(IPPool)).items,
        (await store.list(Node)).items,
        Claims([*pods, *await _parts(store, WorkloadEndpoint, ("namespace", scope.namespaces))]),
        await configuration(store),
    )


async def _parts(store: Reader, kind: type[R], *parts: tuple[str, frozenset[str]]) -> list[R]:
    """The objects whose `field` has one of some values, for any of `parts`."""
    if sum(len(values) for _, values in parts) > _SMALL:
        return list((await store.list(kind)).items)
    found: dict[str, R] = {}
    for field, values in parts:
        for value in sorted(values):
            found |= {one.key: one for one in (await store.list(kind, Where(field, value))).items}
    return list(found.values())
