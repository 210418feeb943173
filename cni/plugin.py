"""A call from end to end: check it, run it, and shape what goes to standard output.

Standard output holds one JSON object (ADD's result, an error, VERSION's answer) or nothing, whatever happens here.
Source: CNI SPEC 1.1.0 sections 2 and 5.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from cni import attach, delegate, faults, removals
from cni.check import check
from cni.collect import collect
from cni.config import Attachment, Call, parse
from cni.errors import CniError, InternalError, InvalidConfig, InvalidNamespace, NotAvailable, TryAgainLater
from cni.lend import lend
from cni.netconf import version_of
from cni.node import Node
from cni.request import PROTOCOL, Request
from cni.result import NEWEST_VERSION, SUPPORTED_VERSIONS, Result
from cni.status import status
from cni.tombstones import Tombstones
from ipam.errors import HandleBusy
from kernel import netns
from kernel.batch import NetlinkSocket
from kernel.errors import KernelError, NotANamespace

log = logging.getLogger(__name__)

_DESCRIPTORS = 2


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Output:
    """What the runtime gets: exit status and standard output."""

    status: int
    stdout: bytes = b""
    made: bool = False
    """Whether an ADD made something that is nobody's unless its runtime hears of it."""
    code: int = 0
    """The SPEC's, of an error."""


class Plugin:
    """The CNI commands of one node."""

    def __init__(self, node: Node, tombstones: Tombstones | None = None) -> None:
        self.not_ready = "the agent has just started"
        """Why ADD can't be served yet; empty once it can."""
        self.other_relay = ""
        """What to do about a relay that speaks otherwise than this agent; empty once one calls that doesn't."""
        self.on_done: Callable[[str, int, float], None] = lambda command, code, seconds: None
        """Told of each call but VERSION: its command, the error's code or 0, and the seconds it took."""
        self._node = node
        self._tombstones = tombstones
        self._adding: dict[Attachment, asyncio.Task[Output]] = {}
        self._answers: WeakValueDictionary[Attachment, Output] = WeakValueDictionary()
        """The last ADD's answer about each attachment, while it is being given."""

    async def run(self, request: Request) -> Output:
        """Run a call; never raises but when cancelled."""
        if request.command == "VERSION":
            return Output(0, version())
        if faults.ACTIVE:
            faults.note("call received")
        began = time.perf_counter()
        output = await self._run(request)
        self.on_done(request.command, output.code, time.perf_counter() - began)
        return output

    async def _run(self, request: Request) -> Output:
        try:
            self._hear(request)
            call = parse(request.environment, request.stdin)
            return await self._dispatch(call, request)
        except CniError as error:
            if isinstance(error, TryAgainLater):
                self._node.health.doubt()
            return failed(error, request)
        except OSError as error:  # the disk of the records is full, above all
            log.exception("%s failed", request.command)
            return failed(TryAgainLater("this node's files or sockets refuse", str(error)), request)
        except Exception as error:
            log.exception("%s failed", request.command)
            return failed(InternalError("something unforeseen happened", repr(error)), request)

    def _hear(self, request: Request) -> None:
        """Take note of what the relay speaks.

        Raises:
            TryAgainLater, NotAvailable: this agent doesn't, and it is no DEL.
        """
        self.other_relay = _understood(request.protocol)
        if self.other_relay and request.command != "DEL":
            refusal = NotAvailable if request.command == "STATUS" else TryAgainLater
            raise refusal("the plugin and its agent are of versions that don't go together", self.other_relay)

    async def unheard(self, request: Request, output: Output) -> None:
        """Nobody took an answer: what its ADD made is removed, for a runtime that was killed may never send the DEL.

        Not so where another ADD has been answered for the same attachment meanwhile.
        """
        if output.made and any(answer is output for answer in self._answers.values()):
            await self.run(Request({**request.environment, "CNI_COMMAND": "DEL"}, request.stdin))

    async def _dispatch(self, call: Call, request: Request) -> Output:
        match call.command:
            case "ADD":
                made = not self._node.records.has_handle(call.attachment.handle)
                try:
                    result = await self._add(call, request)
                except CniError as error:
                    self._node.refused(call.pod, error)
                    raise
                output = Output(0, result.to_json(call.config.cni_version), made)
                self._answers[call.attachment] = output
                return output
            case "DEL":
                return await self._delete(call)
            case "STATUS":
                if self.not_ready:
                    raise NotAvailable("ADD can't be served", self.not_ready)
                await status(self._node, call)
            case "CHECK":
                await self._check(call, request)
            case _:
                if self.not_ready:
                    raise TryAgainLater("GC can't be served yet", self.not_ready)
                await collect(self._node, call)
        return Output(0)

    async def _add(self, call: Call, request: Request) -> Result:
        if self.not_ready:
            raise TryAgainLater("ADD can't be served yet", self.not_ready)
        if self._tombstones is not None and await self._tombstones.replay(self._node, call.attachment):
            raise TryAgainLater("an earlier removal of this attachment is still owed", "it was left as a tombstone")
        if faults.ACTIVE:
            await faults.at("add checked")
        if call.alone:
            return await lend(self._node, call)
        inside = _inside(call, request)
        task = asyncio.current_task()
        if task is not None:
            self._adding[call.attachment] = task
        try:
            result = await attach.add(self._node, call, inside)
        except asyncio.CancelledError:
            # By a DEL of the same attachment: the ADD is undone, and its caller, if any, is told.
            raise TryAgainLater("the ADD was cancelled", "its container is being removed") from None
        finally:
            inside.socket.close()
            if self._adding.get(call.attachment) is task:
                del self._adding[call.attachment]
        log.info(
            "attached %s/%s with %s", call.pod.namespace, call.pod.name, ", ".join(one.address for one in result.ips)
        )
        return result.after(call.previous)

    async def _check(self, call: Call, request: Request) -> None:
        if self.not_ready:
            raise TryAgainLater("CHECK can't be served yet", self.not_ready)
        inside = None if call.alone else _inside(call, request)
        try:
            await check(self._node, call, inside)
        except KernelError as error:
            raise InternalError("the attachment can't be looked at", str(error)) from error
        finally:
            if inside is not None:
                inside.socket.close()

    async def _delete(self, call: Call) -> Output:
        if faults.ACTIVE:
            await faults.at("del checked")
        running = self._adding.get(call.attachment)
        if running is not None:
            running.cancel()
        try:
            await removals.delete(self._node, call.attachment, _below(call, self._node))
        except HandleBusy as error:
            raise TryAgainLater("the attachment is busy", str(error)) from error
        except KernelError as error:
            raise InternalError("the pod's interface could not be taken down", str(error)) from error
        log.info("detached %s", call.attachment.handle)
        return Output(0)


def _understood(protocol: str) -> str:
    """Empty if this agent speaks it, else what to do."""
    if protocol == str(PROTOCOL):
        return ""
    return (
        f"the plugin in the runtime's folder speaks protocol {protocol[:20]!r}, this agent {PROTOCOL}; install the "
        "agent's own: on Kubernetes kubectl -n tortie-system rollout restart daemonset/tortie-agent, on a host "
        "tortiectl node install --bin-dir /opt/cni/bin"
    )


def version() -> bytes:
    """VERSION's answer."""
    return json.dumps({"cniVersion": NEWEST_VERSION, "supportedVersions": list(SUPPORTED_VERSIONS)}).encode() + b"\n"


def _inside(call: Call, request: Request) -> attach.Inside:
    """The pod's namespace as the relay passed it; the request keeps the descriptors.

    Raises:
        InvalidNamespace: there is none at CNI_NETNS.
    """
    wrong = request.environment.get("TORTIE_NETNS_ERROR", "")
    if not wrong and len(request.fds) < _DESCRIPTORS:
        wrong = "no descriptors came with the call"
    if not wrong:
        try:
            netns.check_namespace(request.fds[0], call.netns)
        except NotANamespace as error:
            wrong = error.reason
    if wrong:
        raise InvalidNamespace(f"CNI_NETNS {call.netns[:200]} is no network namespace", wrong)
    return attach.Inside(request.fds[0], NetlinkSocket.borrow(request.fds[1]), request.fds[_DESCRIPTORS:])


def _below(call: Call, node: Node) -> delegate.Delegated | None:
    """The IPAM plugin below, for a DEL without a record; a configuration that doesn't say it well keeps no pod."""
    try:
        return None if call.alone else delegate.delegated(call, node.pod_cidrs)
    except InvalidConfig:
        return None


def failed(error: CniError, request: Request) -> Output:
    """The error object, in the version of the call."""
    log.warning("%s failed: %s", request.command, error)
    return Output(1, error.to_json(version_of(request.stdin)), code=error.CODE)
