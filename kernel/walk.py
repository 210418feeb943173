"""What the kernel would do with one packet, given tables and sets as values.

It walks the rules as ip_tables.c does (ipt_do_table): -j comes back to the next rule, -g comes back to where the
chain it was said in had been jumped to from, and from a built-in chain's -g the end is the policy. The answer holds
every rule that was met, so that tests can count them.

Words it doesn't know are refused, never guessed; so are things that iptables-restore would refuse (multiport without a
protocol or with more than 15 slots, a set that isn't there). A `limit` always has room here. Built-in chains have the
policy ACCEPT and, beside ours, no rules.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple, Protocol

from kernel.sets import Member, SetName, SetSpec, SetType
from kernel.tables import MAX_MULTIPORT, ChainName, Rule, Table, TableName

Stages = tuple[tuple[TableName, str], ...]
FORWARDED: Stages = (
    (TableName.RAW, "PREROUTING"),
    (TableName.MANGLE, "PREROUTING"),
    (TableName.MANGLE, "FORWARD"),
    (TableName.FILTER, "FORWARD"),
    (TableName.MANGLE, "POSTROUTING"),
)
"""What a packet meets that comes in by one interface and leaves by another."""
RECEIVED: Stages = (
    (TableName.RAW, "PREROUTING"),
    (TableName.MANGLE, "PREROUTING"),
    (TableName.MANGLE, "INPUT"),
    (TableName.FILTER, "INPUT"),
)
"""What a packet to the node itself meets."""
SENT: Stages = (
    (TableName.RAW, "OUTPUT"),
    (TableName.MANGLE, "OUTPUT"),
    (TableName.FILTER, "OUTPUT"),
    (TableName.MANGLE, "POSTROUTING"),
)
"""What a packet of the node itself meets."""
_MAX_STEPS = 100_000
"""Rules; the kernel refuses tables with loops when they are loaded, here a loop ends by this bound."""
_NO_OUT, _NO_IN = ("PREROUTING", "INPUT"), ("OUTPUT", "POSTROUTING")
"""Built-in chains in which one of the interfaces isn't known yet, or no longer."""
_PROTOCOLS = {"ipencap": "4", "icmpv6": "ipv6-icmp"}
"""Other words for the same protocol."""
_ICMP_TYPES = {"redirect": 5}


class Unwalkable(ValueError):
    """A rule that can't be interpreted, or that the kernel would not take; the text says which part."""


class SetContent(Protocol):
    """What a set is and holds."""

    @property
    def spec(self) -> SetSpec:
        """Its type and family."""
        ...

    @property
    def members(self) -> Collection[Member]:
        """Its members."""
        ...


Sets = Mapping[SetName, SetContent]


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet and what the kernel knows of it; `protocol` is tcp, udp, sctp, icmp, ipv6-icmp or a number."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: str = "tcp"
    port: int | None = None
    """The destination's port."""
    interface_in: str = ""
    interface_out: str = ""
    state: str = "NEW"
    """conntrack's."""
    mark: int = 0
    icmp_type: int | None = None
    hop_limit: int = 64
    source_local: bool = False
    """Whether the source is one of the node's own addresses."""
    destination_local: bool = False


class Step(NamedTuple):
    """A rule that was met."""

    table: TableName
    chain: str
    rule: Rule
    matched: bool


@dataclass(frozen=True, slots=True)
class Walk:
    """How it ended: the packet as it left (its mark may have changed), and every rule met, in order."""

    accepted: bool
    packet: Packet
    path: tuple[Step, ...]

    def met(self, table: TableName, chain: str) -> int:
        """How many rules of a chain were met."""
        return sum(step.table is table and step.chain == chain for step in self.path)


def walk(tables: Mapping[TableName, Table], sets: Sets, stages: Stages, packet: Packet) -> Walk:
    """Send a packet through the built-in chains of `stages`, until one drops it.

    Raises:
        Unwalkable: a rule on its way can't be interpreted.
    """
    path: list[Step] = []
    mark = packet.mark
    for name, hook in stages:
        table = tables.get(name)
        if table is None or not table.hooks.get(hook):
            continue
        seen = replace(
            packet,
            mark=mark,
            interface_in="" if hook in _NO_IN else packet.interface_in,
            interface_out="" if hook in _NO_OUT else packet.interface_out,
        )
        traversal = _Traversal(name, table, sets, seen, path)
        accepted = traversal.run(hook)
        mark = traversal.packet.mark
        if not accepted:
            return Walk(False, replace(packet, mark=mark), tuple(path))
    return Walk(True, replace(packet, mark=mark), tuple(path))


class _Traversal:
    """One packet in one table."""

    def __init__(self, name: TableName, table: Table, sets: Sets, packet: Packet, path: list[Step]) -> None:
        self.packet = packet
        self._name = name
        self._table = table
        self._sets = sets
        self._path = path

    def run(self, hook: str) -> bool:
        """Whether the built-in chain lets the packet pass."""
        chain, pending = hook, iter(self._table.hooks.get(hook, ()))
        stack: list[tuple[str, Iterator[Rule]]] = []
        while True:
            rule = next(pending, None)
            if rule is None:
                if not stack:
                    return True
                chain, pending = stack.pop()
                continue
            if not self._meets(chain, rule):
                continue
            match rule.target:
                case ("-j", "ACCEPT" | "DROP" as verdict):
                    return verdict == "ACCEPT"
                case ("-j", "RETURN"):
                    pending = iter(())
                case ("-j", "MARK", "--set-xmark", text):
                    value, mask = _value_mask(text)
                    self.packet = replace(self.packet, mark=(self.packet.mark & ~mask) ^ value)
                case ("-j", "NFLOG", *_):
                    pass
                case ("-j", name):
                    stack.append((chain, pending))
                    chain, pending = name, self._rules(name)
                case ("-g", name):
                    chain, pending = name, self._rules(name)
                case _:
                    raise Unwalkable(f"target {' '.join(rule.target)}")

    def _meets(self, chain: str, rule: Rule) -> bool:
        matched = all(condition(self.packet, self._sets) for condition in _conditions(rule.match))
        self._path.append(Step(self._name, chain, rule, matched))
        if len(self._path) > _MAX_STEPS:
            raise Unwalkable(f"{chain} is met again and again")
        return matched

    def _rules(self, name: str) -> Iterator[Rule]:
        try:
            return iter(self._table.chains[ChainName(name)].rules)
        except KeyError:
            raise Unwalkable(f"there is no chain or target {name!r} in {self._name.value}") from None


Condition = Callable[[Packet, Sets], bool]


@functools.lru_cache(maxsize=1 << 16)
def _conditions(match: tuple[str, ...]) -> tuple[Condition, ...]:
    return tuple(_parse(match))


def _parse(match: tuple[str, ...]) -> Iterator[Condition]:
    modules: set[str] = set()
    protocol = ""
    words = iter(match)
    for word in words:
        negate = word == "!"
        option = next(words, "") if negate else word
        if option == "-m" and not negate:
            modules.add(next(words, ""))
            continue
        module, count, build = _OPTIONS.get(option, ("", 0, None))
        if build is None or (module and module not in modules):
            raise Unwalkable(f"{option!r} in {' '.join(match)}")
        arguments = [next(words, "") for _ in range(count)]
        if option == "-p":
            protocol = arguments[0]
        if option == "--dports" and protocol not in ("tcp", "udp", "sctp"):
            raise Unwalkable(f"multiport needs -p tcp, udp or sctp: {' '.join(match)}")
        condition = build(*arguments)
        yield _negated(condition) if negate else condition


def _negated(condition: Condition) -> Condition:
    return lambda packet, sets: not condition(packet, sets)


def _interface(attribute: str) -> Callable[[str], Condition]:
    def build(pattern: str) -> Condition:
        if pattern.endswith("+"):
            return lambda packet, _: getattr(packet, attribute).startswith(pattern[:-1])
        return lambda packet, _: bool(getattr(packet, attribute) == pattern)

    return build


def _address(attribute: str) -> Callable[[str], Condition]:
    def build(text: str) -> Condition:
        network = _network(text)
        return lambda packet, _: getattr(packet, attribute) in network

    return build


def _protocol(name: str) -> Condition:
    wanted = _PROTOCOLS.get(name, name)
    return lambda packet, _: packet.protocol == wanted


def _ports(text: str) -> Condition:
    spans = [tuple(int(end) for end in part.split(":")) for part in text.split(",")]
    if sum(map(len, spans)) > MAX_MULTIPORT:
        raise Unwalkable(f"more than {MAX_MULTIPORT} ports: {text}")
    return lambda packet, _: packet.port is not None and any(span[0] <= packet.port <= span[-1] for span in spans)


def _state(text: str) -> Condition:
    states = text.split(",")
    if not set(states) <= {"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"}:
        raise Unwalkable(f"connection state {text!r}")
    return lambda packet, _: packet.state in states


def _marked(text: str) -> Condition:
    value, mask = _value_mask(text)
    return lambda packet, _: packet.mark & mask == value


def _local(attribute: str) -> Callable[[str], Condition]:
    def build(kind: str) -> Condition:
        if kind != "LOCAL":
            raise Unwalkable(f"address type {kind!r}")
        return lambda packet, _: bool(getattr(packet, attribute))

    return build


def _icmp(protocol: str) -> Callable[[str], Condition]:
    def build(kind: str) -> Condition:
        number = _ICMP_TYPES.get(kind) if protocol == "icmp" else None
        if number is None and not kind.isdigit():
            raise Unwalkable(f"{protocol} type {kind!r}")
        wanted = int(kind) if number is None else number
        return lambda packet, _: packet.protocol == protocol and packet.icmp_type == wanted

    return build


def _hop_limit(text: str) -> Condition:
    return lambda packet, _: packet.hop_limit == int(text)


def _always(_: str) -> Condition:
    return lambda packet, sets: True


def _in_set(name: str, directions: str) -> Condition:
    ways = directions.split(",")
    if not set(ways) <= {"src", "dst"}:
        raise Unwalkable(f"directions {directions!r} of set {name}")

    def condition(packet: Packet, sets: Sets) -> bool:
        try:
            content = sets[SetName(name)]
        except KeyError:
            raise Unwalkable(f"there is no set {name}") from None
        if content.spec.family.value != packet.source.version:
            raise Unwalkable(f"set {name} is of the other family")
        return _is_member(content, packet, ways)

    return condition


def _is_member(content: SetContent, packet: Packet, ways: list[str]) -> bool:
    address = packet.source if ways[0] == "src" else packet.destination
    match content.spec.type, len(ways):
        case SetType.ADDRESSES, 1:
            return str(address) in content.members
        case SetType.NETWORKS, 1:
            return _in_networks(content, address, "")
        case SetType.ADDRESS_INTERFACES, 2:
            interface = packet.interface_in if ways[1] == "src" else packet.interface_out
            return _in_networks(content, address, f",{interface}")
        case SetType.ADDRESS_PORTS, 2 if ways[1] == "dst":
            return f"{address},{packet.protocol}:{packet.port}" in content.members
    raise Unwalkable(f"directions {','.join(ways)} of set {content.spec.name}")


def _in_networks(content: SetContent, address: IPv4Address | IPv6Address, rest: str) -> bool:
    """Whether a member is the address, or a network around it, followed by `rest`."""
    if f"{address}{rest}" in content.members:
        return True
    wider = (member for member in content.members if "/" in member and member.endswith(rest))
    return any(address in _network(member.removesuffix(rest)) for member in wider)


@functools.lru_cache(maxsize=1 << 16)
def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise Unwalkable(f"{text!r} is no network") from None


def _value_mask(text: str) -> tuple[int, int]:
    value, _, mask = text.partition("/")
    return int(value, 0), int(mask or "0xffffffff", 0)


_OPTIONS: dict[str, tuple[str, int, Callable[..., Condition]]] = {
    "-i": ("", 1, _interface("interface_in")),
    "-o": ("", 1, _interface("interface_out")),
    "-p": ("", 1, _protocol),
    "-s": ("", 1, _address("source")),
    "-d": ("", 1, _address("destination")),
    "--match-set": ("set", 2, _in_set),
    "--dports": ("multiport", 1, _ports),
    "--ctstate": ("conntrack", 1, _state),
    "--mark": ("mark", 1, _marked),
    "--src-type": ("addrtype", 1, _local("source_local")),
    "--dst-type": ("addrtype", 1, _local("destination_local")),
    "--icmp-type": ("icmp", 1, _icmp("icmp")),
    "--icmpv6-type": ("icmp6", 1, _icmp("ipv6-icmp")),
    "--hl-eq": ("hl", 1, _hop_limit),
    "--limit": ("limit", 1, _always),
    "--comment": ("comment", 1, _always),
}
"""By option: the module that must be loaded first, how many words follow, and what they mean."""
