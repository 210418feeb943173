"""apply and delete: everything given is read and judged before the first write."""

import asyncio
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

import click
import msgspec

from ctl import manifests
from ctl.failures import Failure
from ctl.location import Choice, Location, cluster_options
from ctl.manifests import Manifest
from datastore.errors import AlreadyExists, Conflict, Invalid, NotFound, Unknown
from datastore.resources import kinds
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.kubernetes import KubernetesNode, Pod
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Store, Where
from lab.agents import Awaited, wait_applied

_NOT_BY_HAND = {
    Pod: "pods of a lab are made by `tortiectl lab run`",
    WorkloadEndpoint: "endpoints are written by their node's agent",
    IPBlock: "blocks are written by IPAM",
    Node: "a Node is written by its agent",
    KubernetesNode: "a Node is written by its agent",
}
_TRIES = 8


@click.command()
@click.option("-f", "--filename", "files", multiple=True, required=True, metavar="FILE|DIR|-", help="What to apply.")
@click.option("-n", "--namespace", default="", help="For objects that name none.")
@cluster_options
def apply(files: Sequence[str], namespace: str, cluster: Choice) -> None:
    """Create or update objects from files; returns when every running lab agent has applied them."""
    read = manifests.read(files, namespace)
    if not read:
        raise Invalid(", ".join(files), "has no object")
    seen: set[tuple[type[Resource], str]] = set()
    for manifest in read:
        key = type(manifest.resource), manifest.resource.key
        if key in seen:
            raise Invalid(f"{manifest.source}: {manifest.resource.key}", "is given twice")
        seen.add(key)
        if type(manifest.resource) in _NOT_BY_HAND:
            reason = _NOT_BY_HAND[type(manifest.resource)]
            raise Invalid(f"{manifest.source}: {manifest.resource.key}", f"can't be applied: {reason}")
    location = cluster.locate()
    _wait(location, asyncio.run(_apply(location, read)))


@click.command()
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE|DIR|-", help="Delete what stands in files.")
@click.option("-n", "--namespace", default="", help="For objects that name none.")
@click.option("--force", is_flag=True, help="Also what programs write, such as what a dead node left.")
@click.argument("kind", required=False)
@click.argument("names", nargs=-1)
@cluster_options
def delete(
    files: Sequence[str],
    namespace: str,
    force: bool,
    kind: str | None,
    names: Sequence[str],
    cluster: Choice,
) -> None:
    """Delete objects: `-f FILE`, or KIND NAME...; returns when every running lab agent has applied it."""
    if bool(files) == bool(kind) or (kind and not names):
        raise click.UsageError("give either -f FILE, or KIND and NAME")
    if kind:
        cls = kinds.named(kind)
        wanted = [
            (cls, name, (namespace or manifests.DEFAULT_NAMESPACE) if cls.KIND.namespaced else "") for name in names
        ]
    else:
        read = manifests.read(files, namespace)
        wanted = [(type(one.resource), one.resource.name, one.resource.namespace) for one in read]
    for cls, name, _ in wanted:
        if cls in _NOT_BY_HAND and not force:
            reason = f"{_NOT_BY_HAND[cls]}, and live pods may need it; if its node is gone for good, say --force"
            raise Invalid(f"{cls.KIND.name} {name}", f"can't be deleted: {reason}")
    location = cluster.locate()
    _wait(location, asyncio.run(_delete(location, wanted)))


async def _apply(location: Location, read: Sequence[Manifest]) -> list[Awaited]:
    async with location.store(create=True) as store:
        await _check_pools(store, read)
        return [await _put(store, manifest.resource) for manifest in read]


async def _put(store: Store, wanted: Resource) -> Awaited:
    for _ in range(_TRIES):
        try:
            found = await store.get(type(wanted), wanted.name, wanted.namespace)
        except NotFound:
            try:
                written, verb = await store.create(wanted), "created"
            except AlreadyExists:
                continue
        else:
            known = found.metadata
            metadata = msgspec.structs.replace(
                wanted.metadata, resource_version=found.revision, uid=known.uid, generation=known.generation
            )
            changed = msgspec.structs.replace(wanted, metadata=metadata)
            if changed == found:
                written, verb = found, "unchanged"
            else:
                try:
                    written, verb = await store.update(changed), "configured"
                except (Conflict, NotFound):
                    continue
        click.echo(f"{_called(written)} {verb}")
        return Awaited.of(written)
    raise Failure(f"{wanted.key} is being changed by somebody else all the time", 1, "try again")


async def _delete(location: Location, wanted: Iterable[tuple[type[Resource], str, str]]) -> list[Awaited]:
    async with location.store() as store:
        found = []
        for kind, name, namespace in wanted:
            try:
                found.append(await store.get(kind, name, namespace))
            except NotFound as error:
                raise Failure(str(error), 1, f"list them: tortiectl get {kind.KIND.plural}") from None
        return [await _remove(store, resource) for resource in found]


async def _remove(store: Store, resource: Resource) -> Awaited:
    if isinstance(resource, IPPool):
        resource = await _emptied(store, resource)
    for _ in range(_TRIES):
        try:
            await store.delete(resource)
        except NotFound:
            break
        except (Conflict, Unknown):
            try:
                resource = await store.get(type(resource), resource.name, resource.namespace)
            except NotFound:
                break
        else:
            break
    else:
        raise Failure(f"{resource.key} is being changed by somebody else all the time", 1, "try again")
    click.echo(f"{_called(resource)} deleted")
    return Awaited.gone_of(resource)


async def _emptied(store: Store, pool: IPPool) -> IPPool:
    """The pool, disabled and without blocks: it goes in steps, so that no address of it is given meanwhile."""
    if not pool.spec.disabled:
        pool = await store.update(msgspec.structs.replace(pool, spec=msgspec.structs.replace(pool.spec, disabled=True)))
    blocks = (await store.list(IPBlock, Where("pool", pool.name))).items
    if blocks:
        hint = "delete it again when their addresses are free and the blocks given back"
        raise Failure(f"{pool.key} is disabled now, and has {len(blocks)} blocks left", 1, hint)
    return pool


async def _check_pools(store: Store, read: Sequence[Manifest]) -> None:
    """Pools overlap no other, and keep their CIDR and block size while there are blocks.

    Raises:
        Invalid: names file, pool and field.
    """
    given = {one.resource.name: one for one in read if isinstance(one.resource, IPPool)}
    if not given:
        return
    there = {pool.name: pool for pool in (await store.list(IPPool)).items}
    after = there | {name: one.resource for name, one in given.items() if isinstance(one.resource, IPPool)}
    addresses = [(node, text) for node in (await store.list(Node)).items for text in node.spec.addresses]
    for name, manifest in given.items():
        pool, before = after[name], there.get(name)
        where = f"{manifest.source}: {pool.key}"
        for node, text in addresses:
            if ip_address(text) in ip_network(pool.spec.cidr):
                raise Invalid(where, f"spec.cidr: {pool.spec.cidr} has {text}, an address of node {node.name}")
        for other in after.values():
            if other.name != name and _overlap(pool, other):
                raise Invalid(where, f"spec.cidr: {pool.spec.cidr} overlaps {other.spec.cidr} of IPPool {other.name}")
        if before is not None and _shape(before) != _shape(pool):
            blocks = (await store.list(IPBlock, Where("pool", name))).items
            if blocks:
                raise Invalid(where, f"spec.cidr and spec.blockSize can't change while it has {len(blocks)} blocks")


def _shape(pool: IPPool) -> tuple[str, int | None]:
    return pool.spec.cidr, pool.spec.block_size


def _overlap(one: IPPool, other: IPPool) -> bool:
    first, second = ip_network(one.spec.cidr), ip_network(other.spec.cidr)
    return first.version == second.version and first.overlaps(second)


def _wait(location: Location, awaited: Sequence[Awaited]) -> None:
    state = location.lab()
    if location.folder is not None and state is not None:
        wait_applied(location.folder, state, awaited)


def _called(resource: Resource) -> str:
    group = f".{resource.KIND.group}" if resource.KIND.group else ""
    return f"{resource.KIND.name.lower()}{group}/{resource.name}"
