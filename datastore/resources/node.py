"""Node: how packets find a node and the addresses on it.

Our own small object in every shape of the product. Its agent alone writes it, and other agents make routes of it; who
owns an address is never read from it (`DESIGN.md`, section 4).
"""

from typing import ClassVar

import msgspec

from datastore.resources import names
from datastore.resources.value import Kind, Resource, Value, check_below


class NodeSpec(Value, frozen=True, kw_only=True):
    """What a node is reached by, and what is behind it."""

    machine: str
    """The machine's identity (/etc/machine-id): another machine can't take the name until this Node is deleted."""
    addresses: tuple[str, ...] = ()
    """Underlay addresses, at most one of each family is used for routes: the first."""
    blocks: tuple[str, ...] = ()
    """CIDRs of the blocks that belong to this node."""
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")
    """CIDRs whose addresses another IPAM plugin gives on this node (core/v1 Node has the same field)."""
    borrowed: tuple[str, ...] = ()
    """Addresses of its pods that lie in other nodes' blocks."""
    tunnel_addresses: tuple[str, ...] = ()
    """Its own addresses in pools with an encapsulation, at most one of each family: the tunnel's end."""

    def check(self) -> None:
        """Judge every address and CIDR.

        Raises:
            Invalid: names the field within the spec.
        """
        if not self.machine.isascii() or not self.machine.isprintable() or not self.machine:
            raise names.invalid("machine", self.machine, "is no machine identity")
        for index, text in enumerate(self.addresses):
            names.parse_address(text, f"addresses[{index}]")
        for index, text in enumerate(self.blocks):
            names.parse_cidr(text, f"blocks[{index}]")
        for index, text in enumerate(self.pod_cidrs):
            names.parse_cidr(text, f"podCIDRs[{index}]")
        for index, text in enumerate(self.borrowed):
            names.parse_address(text, f"borrowed[{index}]")
        for index, text in enumerate(self.tunnel_addresses):
            names.parse_address(text, f"tunnelAddresses[{index}]")


class Node(Resource, frozen=True, kw_only=True):
    """tortie.dev/v1 Node; not core/v1 Node, which is `kubernetes.KubernetesNode`."""

    KIND: ClassVar[Kind] = Kind("tortie.dev", "v1", "Node", "nodes", False, ("no",))

    spec: NodeSpec

    def check(self) -> None:
        """Judge metadata and spec.

        Raises:
            Invalid: names the field.
        """
        super().check()
        check_below(self.spec, "spec")
