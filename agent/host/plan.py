"""What `host init` is about to do, judged as a whole before the first change."""

import os
from dataclasses import dataclass
from pathlib import Path

from agent import files, options
from agent.host import manifest, pools, relay, service
from agent.host.errors import HostError
from agent.host.manifest import Manifest
from agent.host.pools import PoolPlan
from agent.host.wishes import Asked, Wishes, merged
from cni import conflist
from cni.conflist import ConflistError, Network
from datastore.memory import MemoryStore
from datastore.urls import parse

PROGRAM_MODE, CONFLIST_MODE, UNIT_MODE = 0o755, 0o644, 0o644


@dataclass(frozen=True, slots=True)
class Plan:
    """What was judged to be possible."""

    state: Path
    wishes: Wishes
    before: Manifest | None
    program: bytes
    versions: tuple[str, ...]
    pools: PoolPlan
    database: Path | None
    """The datastore's file; None where it is a server's."""

    @property
    def relays(self) -> tuple[Path, ...]:
        """Where the plugin's programs go."""
        return tuple(Path(self.wishes.bin_dir) / name for name in relay.PROGRAMS)

    @property
    def conflist(self) -> Path:
        """Where the conflist goes."""
        return Path(self.wishes.conf_dir) / conflist.FILE_NAME

    @property
    def conflist_text(self) -> bytes:
        """What the conflist says."""
        own = None
        if relay.is_script(self.program):
            wishes = self.wishes
            own = {"datastore": wishes.datastore, "nodename": wishes.node, "state": str(self.state)}
            own |= {"machine": wishes.machine} if wishes.machine else {}
        return conflist.render(Network(self.pools.families, self.wishes.chain, own), self.versions)

    @property
    def unit(self) -> Path | None:
        """Where the agent's unit goes; None where there is no systemd."""
        return Path(self.wishes.unit_dir) / service.UNIT if service.has_systemd() else None

    @property
    def controller_unit(self) -> Path | None:
        """Where the controller's unit goes; None where there is no systemd."""
        return Path(self.wishes.unit_dir) / service.CONTROLLER_UNIT if service.has_systemd() else None

    @property
    def new_database(self) -> Path | None:
        """The datastore's file, where it isn't there yet."""
        return self.database if self.database is not None and not self.database.exists() else None

    @property
    def files(self) -> tuple[tuple[Path, bytes, int], ...]:
        """Every file to be there, with its mode, in the order of making: the conflist last."""
        programs = [(path, self.program, PROGRAM_MODE) for path in self.relays]
        units = [(self.unit, service.unit(self.command)), (self.controller_unit, self._controller_unit_text)]
        made = [(path, text, UNIT_MODE) for path, text in units if path is not None]
        return (*programs, *made, (self.conflist, self.conflist_text, CONFLIST_MODE))

    @property
    def command(self) -> tuple[str, ...]:
        """How the agent is started."""
        return service.command(self.wishes, self.state)

    @property
    def controller_command(self) -> tuple[str, ...]:
        """How the controller is started."""
        return service.controller_command(self.wishes, self.state)

    @property
    def _controller_unit_text(self) -> bytes:
        return service.controller_unit(self.controller_command)


async def judged(state: Path, asked: Asked) -> Plan:
    """The plan for what was asked.

    Raises:
        HostError, Invalid: it can't be done as asked.
        StoreError: the datastore can't be read.
        OSError: a file can't be read.
    """
    before = manifest.read(state)
    wishes = merged(asked, before.wishes if before is not None else None, state)
    if before is not None and before.wishes.node != wishes.node:
        raise HostError(f"this host is node {before.wishes.node!r} already", "tortiectl host remove comes first")
    options.check(service.command(wishes, state)[1:])
    networks = pools.checked(wishes.pools)
    address = parse(wishes.datastore)
    if not address.shared:
        raise HostError(f"{wishes.datastore} would be each process's own", "give one that the nodes share")
    program = relay.content()
    versions = _versions(wishes)
    if address.path is not None and not address.path.exists():
        planned = await pools.plan(MemoryStore(), networks)
    else:
        store = await address.open()
        try:
            planned = await pools.plan(store, networks)
        finally:
            await store.close()
    plan = Plan(state, wishes, before, program, versions, planned, address.path)
    _check_ours(plan)
    return plan


def _versions(wishes: Wishes) -> tuple[str, ...]:
    ours = relay.built()
    try:
        spoken = {"tortie": conflist.versions_of(ours) if ours is not None else relay.script_versions()}
        for kind in wishes.chain:
            spoken[kind] = conflist.versions_of(conflist.find(kind, folders_of_plugins(wishes)))
        return conflist.shared(spoken)
    except ConflistError as error:
        raise HostError(str(error)) from error


def folders_of_plugins(wishes: Wishes) -> tuple[Path, ...]:
    """Where chained plugins are looked for."""
    return (Path(wishes.bin_dir), *conflist.PLUGIN_FOLDERS)


def _check_ours(plan: Plan) -> None:
    """Nobody else's file is overwritten; one that is just as it would be is fine, and stays his."""
    ours = plan.before.files if plan.before is not None else ()
    for path, content, mode in plan.files:
        if str(path) not in ours and os.path.lexists(path) and not files.is_so(path, content, mode):
            raise HostError(f"{path} is there, and not made by host init", "move it away, or choose another folder")
