"""Nodes that enforce: a compiler each, and packets that walk through what it renders."""

from collections.abc import Iterable, Mapping

from kernel import sets
from kernel.tables import Family, Table, TableName
from kernel.walk import FORWARDED, RECEIVED, SENT, Packet, Stages, Walk, walk
from policy.compiler import Compiler
from policy.evaluate import Snapshot
from policy.model import Address, Endpoint, Protocol
from policy.settings import Settings

UPLINK = "eth0"


def tables_of(compiler: Compiler, family: Family) -> Mapping[TableName, Table]:
    """One family's tables."""
    return {name: table for (of, name), table in compiler.desired.tables.items() if of is family}


def send(compiler: Compiler, stages: Stages, packet: Packet) -> Walk:
    """Send a packet through one node's rules."""
    tables = tables_of(compiler, sets.family_of(packet.source))
    return walk(tables, compiler.desired.sets, stages, packet)


class Nodes:
    """Some nodes of one cluster."""

    def __init__(self, names: Iterable[str], settings: Settings | None = None) -> None:
        self.compilers = {name: Compiler(name, settings) for name in names}
        self._now = Snapshot({})

    def update(self, snapshot: Snapshot) -> None:
        """Bring every compiler from the last snapshot to this one, telling only what there is and what is gone."""
        for compiler in self.compilers.values():
            for policy in self._now.policies.keys() - snapshot.policies.keys():
                compiler.remove_policy(policy)
            for endpoint in self._now.endpoints.keys() - snapshot.endpoints.keys():
                compiler.remove_endpoint(endpoint)
            for namespace in self._now.namespaces.keys() - snapshot.namespaces.keys():
                compiler.remove_namespace(namespace)
            for node in self._now.nodes.keys() - snapshot.nodes.keys():
                compiler.remove_node(node)
            for name, addresses in snapshot.nodes.items():
                compiler.set_node(name, addresses)
            for name, labels in snapshot.namespaces.items():
                compiler.set_namespace(name, labels)
            for pod in snapshot.endpoints.values():
                compiler.set_endpoint(pod)
            for one in snapshot.policies.values():
                compiler.set_policy(one)
        self._now = snapshot

    def connects(self, source: Address, destination: Address, port: int, protocol: Protocol) -> bool:
        """Whether a new connection passes on its whole way: the sender's node, then the receiver's."""
        sender, receiver = self._holder(source), self._holder(destination)
        packet = Packet(source, destination, protocol.word, port)
        if sender is not None and receiver is not None and sender.id == receiver.id:
            return True  # never leaves the pod
        if sender is None:
            return receiver is None or self._arrives(packet, receiver)
        if receiver is None:
            here = destination in self._now.nodes.get(sender.node, ())
            return self._passes(sender.node, RECEIVED if here else FORWARDED, packet, sender.interface, UPLINK)
        if sender.node == receiver.node:
            return self._passes(sender.node, FORWARDED, packet, sender.interface, receiver.interface)
        return self._passes(sender.node, FORWARDED, packet, sender.interface, UPLINK) and self._passes(
            receiver.node, FORWARDED, packet, UPLINK, receiver.interface
        )

    def _arrives(self, packet: Packet, receiver: Endpoint) -> bool:
        """From an address that is no pod: the receiver's own node, or from outside."""
        if packet.source in self._now.nodes.get(receiver.node, ()):
            return self._passes(receiver.node, SENT, packet, "", receiver.interface, source_local=True)
        return self._passes(receiver.node, FORWARDED, packet, UPLINK, receiver.interface)

    def _passes(
        self, node: str, stages: Stages, packet: Packet, came_in: str, goes_out: str, *, source_local: bool = False
    ) -> bool:
        seen = Packet(
            packet.source,
            packet.destination,
            packet.protocol,
            packet.port,
            came_in,
            goes_out,
            source_local=source_local,
        )
        return send(self.compilers[node], stages, seen).accepted

    def _holder(self, address: Address) -> Endpoint | None:
        return next((one for one in self._now.endpoints.values() if address in one.addresses), None)
