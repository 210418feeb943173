"""What ADD and DEL need of their node; the agent and `python -m cni` each put one together."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from cni.annotations import Namespaces, NoNamespaces
from cni.config import PodIdentity
from cni.errors import CniError
from cni.flows import Flows
from cni.links import HostLinks
from cni.pods import NoPods, Pods
from cni.reaper import Reaper
from cni.records import Record, Records
from ipam.allocator import Allocator
from ipam.handles import Handles


class NotEnforced(Exception):
    """The kernel didn't confirm a pod's policy in time, or refused it; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Policy(Protocol):
    """The gate: a pod's policies are in force before its ADD answers (invariant 3)."""

    async def admit(self, record: Record) -> None:
        """Return once the kernel enforces this pod's policies.

        Raises:
            NotEnforced: it didn't come to that; the pod must not start.
        """
        ...

    async def verify(self, record: Record) -> None:
        """Make sure that the kernel still enforces this pod's policies; what differs is mended.

        Raises:
            NotEnforced: it can't be.
        """
        ...

    async def dismiss(self, record: Record) -> None:
        """Take the pod out of every set; its link is down already. Never raises for what isn't there."""
        ...


class Endpoints(Protocol):
    """The pod's WorkloadEndpoint in the store; nothing where Pods are the endpoints."""

    def publish(self, record: Record) -> None:
        """Write it soon, beside the answer."""
        ...

    async def withdraw(self, record: Record) -> None:
        """Delete it.

        Raises:
            StoreError: the store can't be used; try again later.
        """
        ...


class Health(Protocol):
    """How the node is, for STATUS."""

    def doubt(self) -> None:
        """An ADD has failed for now: what was true a moment ago may not be any more."""
        ...

    def hurts_pods(self) -> str:
        """Why pods that run are not as they should be; empty if they are."""
        ...

    async def trouble(self) -> str:
        """Why ADD can't be served although they are; empty if it can."""
        ...


class Healthy:
    """A node that has nothing to tell."""

    def doubt(self) -> None:
        """See `Health.doubt`."""

    def hurts_pods(self) -> str:
        """See `Health.hurts_pods`."""
        return ""

    async def trouble(self) -> str:
        """See `Health.trouble`."""
        return ""


@dataclass
class Node:
    """The services of one node, and its name."""

    name: str
    allocator: Allocator
    handles: Handles
    records: Records
    links: HostLinks
    reaper: Reaper
    policy: Policy
    endpoints: Endpoints
    flows: Flows
    mtu: Callable[[], int]
    """Bytes: what a pod's link gets unless its configuration says otherwise."""
    health: Health = field(default_factory=Healthy)
    pod_cidrs: Callable[[], tuple[IPv4Network | IPv6Network, ...]] = tuple
    """The node's own CIDRs, for IPAM plugins of others (`usePodCidr`)."""
    namespaces: Namespaces = field(default_factory=NoNamespaces)
    """What pods' namespaces say of their addresses."""
    pods: Pods = field(default_factory=NoPods)
    """What pods say of themselves."""
    refused: Callable[[PodIdentity, CniError], None] = lambda pod, error: None
    """Told of each ADD that failed."""
    freed: dict[str, None] = field(default_factory=dict)
    """Handles whose last release this process saw succeed, newest last: a second DEL needs no look at the store."""
    removing: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """DELs that were answered while the store is still being told, by handle (`cni.removals`)."""
