"""`host init`: everything judged before the first change, then each thing made, and the conflist last.

    judge      options, pools against those that are there, files that aren't ours, the versions of each plugin
    manifest   what is about to be made
    folders, relay, datastore with its pools, the units of agent and controller
    wait       until the agent serves
    conflist   from now on the runtime calls this node ready

Running it again looks at each thing and changes what isn't as asked.
"""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from agent import asking, files
from agent.host import manifest, pools, service
from agent.host.doing import Doing
from agent.host.manifest import Manifest
from agent.host.plan import Plan, folders_of_plugins, judged
from agent.host.wishes import Asked
from cni import conflist
from datastore.urls import open_store

_PRIVATE, _PUBLIC = 0o700, 0o755


async def init(state: Path, run: Path, asked: Asked, doing: Doing) -> list[str]:
    """Make the host a node; gives what a person should know besides. `run` is the folder of the plugin's socket.

    Raises:
        HostError, Invalid: something is in the way; nothing was changed then, unless the agent can't be started.
        StoreError: the datastore can't be used.
        OSError: a file can't be written.
    """
    plan = await judged(state, asked)
    made = _manifest(plan, run)
    private = {state, run, *_folder_of_the_database(plan)}
    _folders(state.parents, made, private, doing)
    if made != plan.before:
        _keep(state, made, doing)
    _folders({Path(folder) for folder in made.folders} - {state, *state.parents}, made, private, doing)
    *others, (path, content, mode) = plan.files
    changed = [found for found, text, bits in others if _file(found, text, bits, "installed", doing)]
    await _datastore(plan, made, doing)
    _agent(plan, doing, restart=plan.unit in changed)
    _controller(plan, doing, restart=plan.controller_unit in changed)
    _file(path, content, mode, "written", doing)
    _moved(plan, made, doing)
    return _advice(plan, doing)


def _manifest(plan: Plan, run: Path) -> Manifest:
    """What init has made once it is done: of what is there now only what an earlier run made."""
    before = plan.before or Manifest(wishes=plan.wishes)
    wanted = [plan.state, *(path.parent for path, _, _ in plan.files), run, *_folder_of_the_database(plan)]
    folders = [str(path) for folder in wanted for path in _missing(folder)]
    made = {path: str(path) for path, _, _ in plan.files if str(path) in before.files or not os.path.lexists(path)}
    return Manifest(
        wishes=plan.wishes,
        folders=tuple(dict.fromkeys((*before.folders, *folders))),
        conflist=made.get(plan.conflist, ""),
        relays=tuple(made[path] for path in plan.relays if path in made),
        unit=_unit(made, plan.unit, before.unit),
        controller_unit=_unit(made, plan.controller_unit, before.controller_unit),
        pools=tuple(dict.fromkeys((*before.pools, *(pool.name for pool in plan.pools.missing)))),
        datastore_file=str(plan.new_database or before.datastore_file),
    )


def _unit(made: Mapping[Path, str], unit: Path | None, before: str) -> str:
    return made.get(unit, "") if unit is not None else before


def _folder_of_the_database(plan: Plan) -> tuple[Path, ...]:
    return (plan.database.parent,) if plan.database is not None else ()


def _missing(folder: Path) -> list[Path]:
    """The folders to make, outermost first."""
    return [path for path in (*reversed(folder.parents), folder) if not path.exists()]


def _keep(state: Path, made: Manifest, doing: Doing) -> None:
    """Write the manifest; a new state folder appears with it, so that a run that dies leaves none without."""
    if state.exists():
        if not doing.dry:
            manifest.write(state, made)
        return
    doing.do(f"folder {state}", "made", partial(manifest.write_in_a_new_folder, state, made))


def _folders(some: Iterable[Path], made: Manifest, private: set[Path], doing: Doing) -> None:
    """Make those of `some` that are to be made and aren't there, outermost first."""
    for path in sorted(found for found in some if str(found) in made.folders and not found.exists()):
        mode = _PRIVATE if path in private else _PUBLIC
        doing.do(f"folder {path}", "made", partial(path.mkdir, mode=mode, exist_ok=True))


def _file(path: Path, content: bytes, mode: int, verb: str, doing: Doing) -> bool:
    if files.is_so(path, content, mode):
        return False
    doing.do(str(path), verb, partial(files.put, path, content, mode))
    return True


async def _datastore(plan: Plan, made: Manifest, doing: Doing) -> None:
    if plan.new_database is not None:
        doing.note(f"datastore {plan.new_database}", "made")
    for pool in plan.pools.missing:
        doing.note(f"pool {pool.name} {pool.spec.cidr}", "made")
    if doing.dry:
        return
    store = await open_store(plan.wishes.datastore)
    try:
        for pool in plan.pools.missing:
            if not await pools.make(store, pool):  # another node's init was quicker: the pool is that one's
                made = msgspec.structs.replace(made, pools=tuple(name for name in made.pools if name != pool.name))
                manifest.write(plan.state, made)
    finally:
        await store.close()


def _agent(plan: Plan, doing: Doing, *, restart: bool) -> None:
    if plan.unit is None:
        return
    if restart or not service.is_active():
        doing.do(f"agent ({service.UNIT})", "started", service.start)
    if not doing.dry:
        service.wait_until_served(plan.state)


def _controller(plan: Plan, doing: Doing, *, restart: bool) -> None:
    """Nothing waits for it: pods start without a controller."""
    if plan.controller_unit is not None and (restart or not service.is_active(service.CONTROLLER_UNIT)):
        start = partial(service.start, service.CONTROLLER_UNIT)
        doing.do(f"controller ({service.CONTROLLER_UNIT})", "started", start)


def _moved(plan: Plan, made: Manifest, doing: Doing) -> None:
    """Remove what an earlier run put elsewhere."""
    for path in plan.before.files if plan.before is not None else ():
        if path not in made.files and os.path.lexists(path):
            doing.do(path, "removed", partial(files.remove, Path(path)))


def _advice(plan: Plan, doing: Doing) -> list[str]:
    wishes = plan.wishes
    advice = [
        f"{other} sorts before {conflist.FILE_NAME}: runtimes that take one network take that one"
        for other in conflist.before(Path(wishes.conf_dir))
    ]
    for kind in wishes.chain:
        found = conflist.find(kind, folders_of_plugins(wishes))
        if found.parent != Path(wishes.bin_dir):
            advice.append(f"{kind} is in {found.parent}, not in {wishes.bin_dir}: the runtime must look there, too")
    if plan.unit is None:
        advice += _agent_by_hand(plan, doing)
        if asking.status(plan.state / "controller.sock") is None:
            advice.append(f"no controller runs; start it, too: {service.by_hand(plan.controller_command)}")
    return advice


def _agent_by_hand(plan: Plan, doing: Doing) -> list[str]:
    """Where there is no systemd: whether the agent runs as wished, and the command that starts it."""
    said = asking.status(plan.state / "agent.sock")
    start = f"start it: {service.by_hand(plan.command)}"
    if said is None or not said.get("ready"):
        does = "would be" if doing.dry else "is"
        return [f"there is no systemd and no agent serves; the conflist {does} there, but no pod can start yet", start]
    if (said.get("node"), said.get("datastore")) != (plan.wishes.node, plan.wishes.datastore):
        return ["the agent that serves was started with other options; end it", start]
    return []
