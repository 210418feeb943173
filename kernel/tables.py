"""iptables as values: tables of chains of rules, and how iptables-restore wants to read them.

A rule is what it matches, where it sends the packet, and an identity. The identity stands in the rule's comment and is
all that is ever read back: iptables-save prints rules in its own words, so comparing text would find differences where
there are none. It holds a hash of the rule's content, so a changed rule has another identity; and a few words for
people who read iptables-save.

Sources: iptables-extensions(8); XT_EXTENSION_MAXNAMELEN and XT_MAX_COMMENT_LEN in linux/netfilter/x_tables.h and
xt_comment.h; NFLOG's prefix in xt_NFLOG.h.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

ChainName = NewType("ChainName", str)

MAX_CHAIN_NAME = 28
"""Bytes. XT_EXTENSION_MAXNAMELEN is 29 with its NUL."""
MAX_COMMENT = 255
"""Bytes. XT_MAX_COMMENT_LEN is 256 with its NUL."""
MAX_NFLOG_PREFIX = 63
"""Bytes. nflog-prefix is 64 with its NUL."""
MAX_MULTIPORT = 15
"""Ports of one multiport match (XT_MULTI_PORTS); a range takes two."""
COMMENT_MARK = "tt:"
"""Every rule of ours has a comment that begins so; other rules are never changed or removed."""


class Family(Enum):
    """An IP family and what it is called where."""

    IPV4 = 4
    IPV6 = 6

    @property
    def iptables(self) -> str:
        """Prefix of the family's iptables commands."""
        return "iptables" if self is Family.IPV4 else "ip6tables"

    @property
    def ipset(self) -> str:
        """`family` of an ipset."""
        return "inet" if self is Family.IPV4 else "inet6"


class TableName(Enum):
    """iptables' tables, in the order in which a packet from a pod meets them."""

    RAW = "raw"
    MANGLE = "mangle"
    FILTER = "filter"
    NAT = "nat"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `match` and `target` are iptables' own words, ready for iptables-restore.

    They are made by the functions below, from values that were checked; `note` tells people what the rule is for.
    """

    match: tuple[str, ...]
    target: tuple[str, ...]
    note: str = ""

    @property
    def identity(self) -> str:
        """The comment: `tt:`, 12 hex digits over match and target, and the note, cut to fit."""
        content = "\0".join((*self.match, "", *self.target))
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        text = f"{COMMENT_MARK}{digest} {self.note}".rstrip()
        return text.encode()[:MAX_COMMENT].decode(errors="ignore")

    def line(self, verb: str) -> str:
        """The rule for iptables-restore after `verb`, such as `-A TORTIE-FROM` or `-I FORWARD 1`."""
        words = (verb, *self.match, "-m", "comment", "--comment", f'"{self.identity}"', *self.target)
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of ours with its rules in order."""

    name: ChainName
    rules: tuple[Rule, ...]

    def identities(self) -> tuple[str, ...]:
        """What iptables-save must show in this chain, in order."""
        return tuple(rule.identity for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Table:
    """What of one table is ours: whole chains, and jumps at the head of the kernel's own chains."""

    chains: Mapping[ChainName, Chain] = field(default_factory=dict)
    hooks: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """By built-in chain (`FORWARD`): our rules in it, first to last, all above everybody else's."""


def interface_in(name: str, *, negate: bool = False) -> tuple[str, ...]:
    """Packets that came in by `name` (`tort+` is every name that begins so)."""
    return (*_not(negate), "-i", name)


def interface_out(name: str, *, negate: bool = False) -> tuple[str, ...]:
    """Packets that leave by `name`."""
    return (*_not(negate), "-o", name)


def protocol(name: str) -> tuple[str, ...]:
    """Packets of a protocol: tcp, udp, sctp, icmp, ipv6-icmp or a number."""
    return ("-p", name)


def source(network: str) -> tuple[str, ...]:
    """Packets whose source is in `network`."""
    return ("-s", network)


def destination(network: str) -> tuple[str, ...]:
    """Packets whose destination is in `network`."""
    return ("-d", network)


def in_set(name: str, *directions: str, negate: bool = False) -> tuple[str, ...]:
    """Packets whose `directions` (src, dst; one for each dimension of the set) are a member of the set."""
    return ("-m", "set", *_not(negate), "--match-set", name, ",".join(directions))


def ports(*spans: tuple[int, int]) -> tuple[str, ...]:
    """Packets to one of these destination ports, each (first, last); goes after `protocol`.

    multiport serves TCP, UDP and SCTP alike and needs no module of a protocol's own.
    """
    words = (str(first) if first == last else f"{first}:{last}" for first, last in spans)
    return ("-m", "multiport", "--dports", ",".join(words))


def connection_state(*states: str) -> tuple[str, ...]:
    """Packets that conntrack places in one of `states`."""
    return ("-m", "conntrack", "--ctstate", ",".join(states))


def mark(value: int, mask: int, *, negate: bool = False) -> tuple[str, ...]:
    """Packets whose mark is `value` under `mask`."""
    return ("-m", "mark", *_not(negate), "--mark", f"{value:#x}/{mask:#x}")


def address_type(direction: str, kind: str, *, negate: bool = False) -> tuple[str, ...]:
    """Packets whose source (`src`) or destination (`dst`) is of a kind such as LOCAL."""
    return ("-m", "addrtype", *_not(negate), f"--{direction}-type", kind)


def icmp_type(kind: str) -> tuple[str, ...]:
    """ICMP packets of one type; includes the protocol."""
    return ("-p", "icmp", "-m", "icmp", "--icmp-type", kind)


def icmpv6_type(kind: int, *, hop_limit: int | None = None) -> tuple[str, ...]:
    """ICMPv6 packets of one type, with exactly `hop_limit` where given; includes the protocol."""
    hops = () if hop_limit is None else ("-m", "hl", "--hl-eq", str(hop_limit))
    return ("-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", str(kind), *hops)


def limit(rate: str) -> tuple[str, ...]:
    """At most `rate` packets, such as 10/sec."""
    return ("-m", "limit", "--limit", rate)


def jump(chain: ChainName) -> tuple[str, ...]:
    """On to a chain, and back here after its end."""
    return ("-j", chain)


def goto(chain: ChainName) -> tuple[str, ...]:
    """On to a chain; its end returns to where this chain was jumped to from."""
    return ("-g", chain)


def set_mark(value: int, mask: int) -> tuple[str, ...]:
    """Set the mark to `value` under `mask`, the other bits as they were; the packet goes on to the next rule."""
    return ("-j", "MARK", "--set-xmark", f"{value:#x}/{mask:#x}")


def nflog(group: int, prefix: str) -> tuple[str, ...]:
    """Tell listeners of netlink group `group`; the packet goes on to the next rule."""
    return ("-j", "NFLOG", "--nflog-group", str(group), "--nflog-prefix", f'"{prefix[:MAX_NFLOG_PREFIX]}"')


MASQUERADE = ("-j", "MASQUERADE", "--random-fully")
"""Leave with the address of the interface that the packet goes out by. Ports are drawn at random: two nodes' pods that
ask one server at once otherwise meet in conntrack (xt_MASQUERADE, NF_NAT_RANGE_PROTO_RANDOM_FULLY)."""
ACCEPT = ("-j", "ACCEPT")
DROP = ("-j", "DROP")
RETURN = ("-j", "RETURN")


def restore_text(table: TableName, lines: Iterable[str], *, declare: Iterable[ChainName] = ()) -> str:
    """One table's part of an iptables-restore input: `declare`d chains are made, or emptied if there (--noflush)."""
    head = [f"*{table.value}", *(f":{name} - [0:0]" for name in declare)]
    return "\n".join([*head, *lines, "COMMIT", ""])


def _not(negate: bool) -> tuple[str, ...]:
    return ("!",) if negate else ()
