"""What a host, or each node of a lab, has that helps: its kernel's links, routes, rules and sets; agent and logs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent import asking
from agent.host import service
from agent.host.wishes import DEFAULT_CONF
from agent.options import DEFAULT_STATE
from ctl.sysdump import redaction
from ctl.sysdump.parts import Parts
from kernel.errors import KernelError
from kernel.runner import CommandRunner
from lab.holder import enter
from lab.state import Folder, LabState

_KERNEL = {
    "uname.txt": ("uname", "-a"),
    "links.txt": ("ip", "-d", "-s", "address"),
    "routes-v4.txt": ("ip", "-4", "route", "show", "table", "all"),
    "routes-v6.txt": ("ip", "-6", "route", "show", "table", "all"),
    "rules-v4.txt": ("ip", "-4", "rule"),
    "rules-v6.txt": ("ip", "-6", "rule"),
    "neighbours.txt": ("ip", "neighbour"),
    "iptables-nft.txt": ("iptables-nft-save", "-c"),
    "iptables-legacy.txt": ("iptables-legacy-save", "-c"),
    "ip6tables-nft.txt": ("ip6tables-nft-save", "-c"),
    "ip6tables-legacy.txt": ("ip6tables-legacy-save", "-c"),
    "ipsets.txt": ("ipset", "save"),
    "forwarding.txt": ("sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
}
_JOURNAL = ("journalctl", "--no-pager", "-n", "5000", "-u")


def collect(parts: Parts, state: Path | None = None) -> None:
    """This host."""
    _kernel(parts, CommandRunner(), "host")
    _programs(parts, "host", {what: (state or DEFAULT_STATE) / f"{what}.sock" for what in ("agent", "controller")})
    for path in sorted(DEFAULT_CONF.glob("*")) if DEFAULT_CONF.is_dir() else ():
        _file(parts, f"host/cni/{path.name}", path)
    parts.json("host/environment.json", redaction.variables(os.environ))
    for unit in (service.UNIT, service.CONTROLLER_UNIT) if service.has_systemd() else ():
        _run(parts, CommandRunner(), f"host/{unit}.log", (*_JOURNAL, unit))


def collect_lab(parts: Parts, folder: Folder, lab: LabState) -> None:
    """Each node of a lab."""
    for node in lab.nodes:
        where = f"nodes/{node.name}"
        _kernel(parts, CommandRunner(enter(node.keeper, rootless=lab.rootless)), where)
        _programs(parts, where, {"agent": folder.control(node.name)})
        _file(parts, f"{where}/agent.log", folder.log(node.name))
    _programs(parts, "controller", {"controller": folder.controller})
    _file(parts, "controller/controller.log", folder.controller_log)


def _kernel(parts: Parts, runner: CommandRunner, where: str) -> None:
    for name, command in _KERNEL.items():
        _run(parts, runner, f"{where}/{name}", command)


def _run(parts: Parts, runner: CommandRunner, where: str, command: Sequence[str]) -> None:
    try:
        parts.text(where, runner.run(command))
    except KernelError as error:
        parts.failed(where, error)


def _programs(parts: Parts, where: str, sockets: Mapping[str, Path]) -> None:
    for what, path in sockets.items():
        said = asking.status(path)
        if said is None:
            parts.failed(f"{where}/{what}", f"none answers at {path}")
        else:
            parts.json(f"{where}/{what}.json", dict(said))


def _file(parts: Parts, where: str, path: Path) -> None:
    try:
        parts.text(where, path.read_text(errors="replace"))
    except OSError as error:
        parts.failed(where, error.strerror)
