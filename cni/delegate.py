"""Another IPAM plugin below tortie: host-local, static, dhcp, whatever `ipam.type` names.

It is executed by the agent, with the call's own variables and configuration (SPEC section 4), and found in the call's
CNI_PATH. What it was given is kept in the record, so that its DEL can be run whoever undoes the attachment: a failed
ADD, a DEL, the journal's replay after a crash.

host-local's `usePodCidr` (Calico's) is filled in with the node's own CIDRs first.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import msgspec

from cni.config import Attachment, Call
from cni.errors import CniError, InvalidConfig, TryAgainLater
from cni.netconf import OURS
from cni.result import Result
from cni.result import parse as parse_result
from ipam.errors import IpamError

Network = IPv4Network | IPv6Network
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIMIT_S = 60.0
"""dhcp waits for its server for ten seconds and more."""
_OVER_THE_LINK = "dhcp"
_POD_CIDRS = {"usePodCidr": 4, "usePodCidrIPv6": 6}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class DelegateFailed(IpamError):
    """The delegated plugin failed, or can't be run; `told` is what the runtime is told.

    `ran` says that it was executed at all, `answered` that it said no: it will say so again.
    """

    def __init__(self, told: CniError, *, ran: bool = True, answered: bool = False) -> None:
        super().__init__(str(told))
        self.told = told
        self.ran = ran
        self.answered = answered


class Delegated(msgspec.Struct, frozen=True):
    """An IPAM plugin and what it is to be told."""

    type: str
    config: str
    """JSON, as it goes to its standard input."""
    path: str
    """CNI_PATH."""
    args: str
    netns: str
    result: str = ""
    """What it answered to ADD."""

    @property
    def needs_link(self) -> bool:
        """Whether its DEL speaks by the pod's interface: a lease is given back over the network."""
        return self.type == _OVER_THE_LINK


def delegated(call: Call, pod_cidrs: Callable[[], tuple[Network, ...]]) -> Delegated | None:
    """The IPAM plugin that a call's configuration names; None where that is ours.

    Raises:
        InvalidConfig: its name is none, or `usePodCidr` can't be filled in.
    """
    kind = call.config.ipam.type
    if kind in OURS:
        return None
    if not _PROGRAM.fullmatch(kind):
        raise InvalidConfig("ipam.type is no plugin's name", kind[:80])
    document = json.loads(call.stdin)
    document["ipam"] = _with_pod_cidrs(document["ipam"], pod_cidrs)
    path, args = (call.environment.get(name, "") for name in ("CNI_PATH", "CNI_ARGS"))
    return Delegated(kind, json.dumps(document), path, args, call.netns)


async def run(plugin: Delegated, command: str, attachment: Attachment) -> bytes:
    """Execute the plugin for an attachment; gives its standard output.

    Raises:
        DelegateFailed: it isn't there, failed, or took too long.
    """
    environment = {
        "PATH": os.environ.get("PATH", _PATH),
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_IFNAME": attachment.interface,
        "CNI_NETNS": plugin.netns,
        "CNI_ARGS": plugin.args,
        "CNI_PATH": plugin.path,
    }
    try:
        process = await asyncio.create_subprocess_exec(
            str(_find(plugin)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: value for name, value in environment.items() if value},
        )
    except OSError as error:
        told = TryAgainLater(f"the IPAM plugin {plugin.type} can't be run", str(error))
        raise DelegateFailed(told, ran=False) from error
    try:
        async with asyncio.timeout(_LIMIT_S):
            stdout, stderr = await process.communicate(plugin.config.encode())
    except TimeoutError:
        late = TryAgainLater(f"the IPAM plugin {plugin.type} did not end", f"{command}: {_LIMIT_S:g} s")
        raise DelegateFailed(late) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise DelegateFailed(_failure(plugin.type, stdout, stderr), answered=True)
    return stdout


async def check(plugin: Delegated, attachment: Attachment) -> None:
    """The plugin's CHECK, with its own answer as what it is to compare with: it knows nothing of ours.

    Raises:
        DelegateFailed: it found something.
    """
    config = json.dumps({**json.loads(plugin.config), "prevResult": json.loads(plugin.result)})
    await run(msgspec.structs.replace(plugin, config=config), "CHECK", attachment)


async def add(plugin: Delegated, attachment: Attachment, version: str) -> tuple[Result, Delegated]:
    """The plugin's addresses, and the plugin with its answer.

    Raises:
        DelegateFailed: it failed, or gave no address.
    """
    stdout = await run(plugin, "ADD", attachment)
    try:
        result = parse_result(json.loads(stdout), version)
    except (ValueError, RecursionError, InvalidConfig) as error:
        wrong = InvalidConfig(f"the IPAM plugin {plugin.type} gave no result", str(error)[:200])
        raise DelegateFailed(wrong) from None
    if not result.ips:
        raise DelegateFailed(InvalidConfig(f"the IPAM plugin {plugin.type} gave no address"))
    return result, msgspec.structs.replace(plugin, result=stdout.decode())


def _find(plugin: Delegated) -> Path:
    for folder in plugin.path.split(os.pathsep):
        if folder and (Path(folder) / plugin.type).is_file():
            return Path(folder) / plugin.type
    told = TryAgainLater(f"no IPAM plugin {plugin.type!r}", f"CNI_PATH is {plugin.path[:200]!r}")
    raise DelegateFailed(told, ran=False)


def _failure(kind: str, stdout: bytes, stderr: bytes) -> CniError:
    """What the plugin said, under the code that it said."""
    try:
        body = json.loads(stdout)
        error = CniError(f"{kind}: {body['msg']}", str(body.get("details") or ""))
        error.CODE = int(body["code"])
    except (ValueError, KeyError, TypeError):
        return CniError(f"{kind} failed", (stdout + stderr).decode(errors="replace").strip()[:400])
    return error


def _with_pod_cidrs(value: object, pod_cidrs: Callable[[], tuple[Network, ...]]) -> object:
    if isinstance(value, list):
        return [_with_pod_cidrs(one, pod_cidrs) for one in value]
    if not isinstance(value, dict):
        return value
    family = _POD_CIDRS.get(value.get("subnet") or "")
    filled = {key: _with_pod_cidrs(one, pod_cidrs) for key, one in value.items()}
    if family is None:
        return filled
    own = next((network for network in pod_cidrs() if network.version == family), None)
    if own is None:
        raise InvalidConfig(
            f"ipam.subnet is {value['subnet']}, and this node has no such CIDR", "tortie-agent --pod-cidr"
        )
    return {**filled, "subnet": str(own)}
