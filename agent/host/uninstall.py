"""`host remove`: the reverse of `host init` and of what the agent did since, the conflist first.

    refuse     while pods are attached, unless told to detach them
    conflist   the runtime calls this node not ready, and asks for no more pods
    programs   controller and agent ended
    pods       detached; addresses, endpoints, blocks and the Node given back
    kernel     rules, sets, routes, links; settings as they were before
    relay, unit, sockets, state; the datastore if nothing is in it but what init put there
    folders    those that init made, if they are empty

What dies half-way is gone on with: the manifest goes last.
"""

from contextlib import suppress
from pathlib import Path

from agent import before, files
from agent.host import file_side, kernel_side, manifest, node_side, service
from agent.host.doing import Doing, Tell
from agent.host.errors import HostError
from agent.host.manifest import Manifest
from agent.options import machine_id
from datastore.errors import Conflict, NotFound, StoreError
from datastore.resources.ippool import IPPool
from datastore.resources.lease import Lease
from datastore.store import Store
from datastore.urls import open_store, parse
from ipam.errors import IpamError

_UNREACHABLE = 3
_NO = 1
_SHOWN = 5
_DATABASE_PARTS = ("-journal", "-wal", "-shm")


async def remove(state: Path, socket: Path, tell: Tell, *, force: bool, purge: bool) -> bool:
    """Take everything away; False where init has made nothing.

    Raises:
        HostError: pods are attached, or the datastore can't be used, and `force` isn't given; or the agent doesn't end.
        KernelError, OSError: something can't be removed; running it again goes on.
    """
    manifest.remove_half_made(state)
    made = manifest.read(state)
    if made is None:
        return False
    doing = Doing(tell)
    store = await _open(made, force=force, tell=tell)
    try:
        await _check(store, state, made, force=force, purge=purge)
        _remove(made.conflist, doing)
        _end_programs(made, state, doing)
        # Once more, for what came meanwhile: from here on pods would lose what they have.
        await _check(store, state, made, force=force, purge=purge)
        if store is not None:
            await _leave(store, state, socket, made, tell)
            purge = await _empty(store, made, tell, purge=purge)
    finally:
        if store is not None:
            await store.close()
    await kernel_side.clean(doing)
    for what in before.put_back(state):
        doing.note(f"setting {what}", "put back")
    for path in made.relays:
        _remove(path, doing)
    if purge and made.datastore_file:
        _remove_database(Path(made.datastore_file), doing)
    file_side.remove_trees(file_side.folders_of_ours(state, socket.parent), doing)
    for file in file_side.files_of_ours(state, socket):
        files.remove(file)
    own = {str(path) for path in (state, *state.parents)}
    file_side.remove_folders([Path(folder) for folder in made.folders if folder not in own], doing)
    _remove(str(state / manifest.NAME), doing)
    file_side.remove_folders([Path(folder) for folder in made.folders if folder in own], doing)
    return True


async def _open(made: Manifest, *, force: bool, tell: Tell) -> Store | None:
    """The datastore; None where there is none any more, or it can't be used and that is to be passed over."""
    path = parse(made.wishes.datastore).path
    if path is not None and not path.exists():
        return None
    try:
        return await open_store(made.wishes.datastore)
    except StoreError as error:
        if not force:
            hint = "--force leaves this node's addresses, blocks and Node in it"
            raise HostError(f"the datastore can't be used: {error}", hint, _UNREACHABLE) from error
        tell(f"datastore: left as it is ({error})")
        return None


async def _check(store: Store | None, state: Path, made: Manifest, *, force: bool, purge: bool) -> None:
    nodes = await node_side.other_nodes(store, made.wishes.node) if purge and store is not None else []
    if nodes:
        raise HostError(f"other nodes use the datastore: {', '.join(nodes)}", "leave out --purge", _NO)
    handles = [] if force else await node_side.attached(store, state, made.wishes.node)
    if handles:
        more = f" and {len(handles) - _SHOWN} more" if len(handles) > _SHOWN else ""
        shown = ", ".join(handles[:_SHOWN])
        raise HostError(f"{len(handles)} pods are attached: {shown}{more}", "--force detaches them", _NO)


def _end_programs(made: Manifest, state: Path, doing: Doing) -> None:
    """End controller and agent, and take their units away."""
    gone = False
    for what, unit, path in (
        ("controller", service.CONTROLLER_UNIT, made.controller_unit),
        ("agent", service.UNIT, made.unit),
    ):
        if path and service.has_systemd():
            service.disable(unit)
            doing.note(f"{what} ({unit})", "stopped")
        if service.end(state, what):
            doing.note(what, "ended")
        gone |= _remove(path, doing)
    if gone and service.has_systemd():
        service.reload()


async def _leave(store: Store, state: Path, socket: Path, made: Manifest, tell: Tell) -> None:
    wishes = made.wishes
    try:
        for what in await node_side.leave(store, state, socket, wishes.node, wishes.machine or machine_id()):
            tell(what)
    except (StoreError, IpamError) as error:
        raise HostError(f"the datastore refused: {error}", "run this again", _UNREACHABLE) from error


async def _empty(store: Store, made: Manifest, tell: Tell, *, purge: bool) -> bool:
    """Take init's pools out of the datastore if nothing else is in it; gives whether its file may go."""
    left = await node_side.others(store, made.pools)
    if left and not purge:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        tell(f"datastore: stays with its pools, for it has {', '.join(left[:_SHOWN])}{more}")
        return False
    for name in made.pools:
        await _delete_pool(store, name, tell)
    for lease in (await store.list(Lease)).items if not left else ():
        with suppress(NotFound, Conflict):  # a controller without a node has it: it makes another
            await store.delete(lease)
    return True


async def _delete_pool(store: Store, name: str, tell: Tell) -> None:
    try:
        await store.delete(await store.get(IPPool, name))
    except NotFound:
        return
    tell(f"pool {name}: removed")


def _remove(path: str, doing: Doing) -> bool:
    return bool(path) and file_side.remove_file(Path(path), doing)


def _remove_database(path: Path, doing: Doing) -> None:
    for part in _DATABASE_PARTS:
        files.remove(Path(f"{path}{part}"))
    file_side.remove_file(path, doing)
