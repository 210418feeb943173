"""The few questions that ADD, DEL and start-up ask of the real machine, answered by the simulated one; and the log."""

import asyncio
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from typing import cast
from unittest import mock

from agent import reboot, reclaim, upkeep
from cni import attach, plugin
from cni.config import Call
from cni.errors import InvalidNamespace
from cni.request import Request
from controller import controller
from ipam.reclaim_departed import DepartedReclaim
from ipam.reclaim_own import OwnReclaim
from kernel import netlink
from kernel.batch import NetlinkSocket
from kernel.links import Route
from tests.simulation.kernel import Kernel
from tests.simulation.machine import EPOCH
from tests.simulation.process import current
from tests.simulation.trace import Trace

_FRESH = 2
"""Looks of reclaim for one that lists blocks afresh: ten would make each seed take ten minutes to come to rest."""


class _Socket:
    """A netlink socket that nobody speaks over."""

    def close(self) -> None:
        """Nothing to close."""


class _Log(logging.Handler):
    def __init__(self, trace: Trace, told: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._trace = trace
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told(record)
        if not self._trace.on:
            return
        process = current.get()
        self._trace.note(process.name if process is not None else "", f"log: {record.getMessage()}")


def _virtual_time() -> float:
    return asyncio.get_running_loop().time()


def _wall() -> float:
    return EPOCH + _virtual_time()


async def _pause(seconds: Callable[[], float]) -> None:
    await asyncio.sleep(seconds())


def _kernel() -> Kernel:
    process = current.get()
    if process is None:
        raise AssertionError("asked outside every process")
    return process.kernel


def _boot_id() -> str:
    return _kernel().boot_id


def _is_namespace(path: str) -> bool:
    return path in _kernel().namespaces


async def _routes() -> list[Route]:
    return [Route(ip_network(address), interface=link) for address, link in _kernel().routes.items()]


@contextmanager
def surroundings(trace: Trace, told: Callable[[logging.LogRecord], None]) -> Generator[None]:
    """As long as this lasts, the machine that is asked is that of the process that asks; `told` sees errors logged."""
    elsewhere = os.open("/", os.O_RDONLY | os.O_CLOEXEC)

    def inside(call: Call, request: Request) -> attach.Inside:
        if call.netns not in _kernel().namespaces:
            raise InvalidNamespace(f"CNI_NETNS {call.netns} is no network namespace")
        return attach.Inside(elsewhere, cast("NetlinkSocket", _Socket()))

    root, handler = logging.getLogger(), _Log(trace, told)
    level = root.level
    root.setLevel(logging.INFO if trace.on else logging.ERROR)
    root.addHandler(handler)
    try:
        with (
            mock.patch.object(plugin, "_inside", inside),
            mock.patch.object(reboot, "_boot_id", _boot_id),
            mock.patch.object(reboot, "_is_namespace", _is_namespace),
            mock.patch.object(reclaim, "_FRESH", _FRESH),
            mock.patch.object(netlink, "routes", _routes),
            mock.patch.object(reclaim, "OwnReclaim", partial(OwnReclaim, clock=_virtual_time)),
            mock.patch.object(reclaim, "pause", _pause),
            mock.patch.object(upkeep, "pause", _pause),
            mock.patch.object(controller, "DepartedReclaim", partial(DepartedReclaim, clock=_virtual_time, wall=_wall)),
        ):
            yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        os.close(elsewhere)
