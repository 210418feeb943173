"""The chains and hooks that are the same whatever the policies say (see `policy/DESIGN.md`).

    raw PREROUTING       mangle FORWARD / INPUT               filter FORWARD / INPUT        mangle POSTROUTING
    -i tort+ > PREROUTING  -i tort+, or ! -i tort+ -o tort+   -i tort+, -o tort+            -o tort+, not ours to allow
      (addr,iface) unknown:  > FORWARD                          > FORWARD                     yet, source not LOCAL
       v4 DROP                 clear our mark                    marked -> ACCEPT             > OUTPUT
       v6 -g STRANGER          RELATED,ESTABLISHED -g ALLOW      else   -> DROP                 EST -> RETURN
      VXLAN, IPIP: DROP        INVALID DROP                    INPUT -i tort+                   > TO
    a local pod's source       hairpin -g ALLOW                  > INPUT                    marked
    not from tort+           > FROM, then > TO                     unmarked -> DROP           > POSTROUTING
      > FOREIGN            INPUT > INPUT                           clear                        clear
      lo RETURN, DROP        clear; ND; RA, redirect DROP;
                             EST -g ALLOW; > FROM
                           INPUT VXLAN, source no node: DROP

    nat POSTROUTING, only where a pool says natOutgoing: source in such a pool > NAT, which lets through what goes to
    a pool and masquerades the rest

Verdicts are made in mangle, where nobody else accepts; allowed is a mark, so that other people's mangle rules still
run. raw comes before conntrack: a spoofed packet of an established connection would pass anything later. What the node
itself sends has no mark and a LOCAL source, and is never looked at: that is its exemption towards its own pods.

Notes have no quotes and no backslashes: iptables-save would show them escaped.
"""

from kernel import tables
from kernel.links import HOST_PREFIX
from kernel.tables import ACCEPT, DROP, RETURN, Chain, ChainName, Family, Rule, Table, TableName, goto, jump
from policy import names
from policy.settings import Settings

PREROUTING = ChainName("TORTIE-PREROUTING")
STRANGER = ChainName("TORTIE-STRANGER")
FOREIGN = ChainName("TORTIE-FOREIGN")
FORWARD = ChainName("TORTIE-FORWARD")
INPUT = ChainName("TORTIE-INPUT")
OUTPUT = ChainName("TORTIE-OUTPUT")
POSTROUTING = ChainName("TORTIE-POSTROUTING")
NAT = ChainName("TORTIE-NAT")

_PODS = f"{HOST_PREFIX}+"
_FROM_POD = tables.interface_in(_PODS)
_TO_POD = tables.interface_out(_PODS)
_NOT_FROM_POD = tables.interface_in(_PODS, negate=True)
_REPLY = tables.connection_state("RELATED", "ESTABLISHED")
_IP_IN_IP = "4"
"""Protocol number: IPv4 in IP, which a node's own tunnel would take in without looking at the inner source."""
_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT, _NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT, _REDIRECT = range(
    133, 138
)
"""ICMPv6 types (RFC 4861 section 4); all are sent with hop limit 255, so one that was forwarded shows."""


def table(name: TableName, family: Family, settings: Settings) -> Table:
    """The fixed part of a table: chains and hooks."""
    match name:
        case TableName.RAW:
            chains, hooks = _raw_chains(family, settings), _raw_hooks(family)
        case TableName.MANGLE:
            chains, hooks = _mangle_chains(family, settings), _mangle_hooks(family, settings)
        case TableName.FILTER:
            chains, hooks = _filter_chains(settings), _filter_hooks()
        case TableName.NAT:
            chains, hooks = {NAT: _nat_rules(family)}, _nat_hooks(family)
    return Table({chain: Chain(chain, rules) for chain, rules in chains.items()}, hooks)


def is_vxlan(settings: Settings) -> tuple[str, ...]:
    """Packets to the VXLAN port."""
    return (*tables.protocol("udp"), *tables.ports((settings.vxlan_port, settings.vxlan_port)))


def _nat_rules(family: Family) -> tuple[Rule, ...]:
    """Only what goes to no pool at all: pods see each other's addresses, whichever pools theirs are of.

    What the node itself sends has no pool's address for its source, but for the end of a tunnel, and that goes to pods.
    """
    return (
        Rule(tables.in_set(names.all_pools(family), "dst"), RETURN, "to pods"),
        Rule((), tables.MASQUERADE, "leaves with the address of the node"),
    )


def _nat_hooks(family: Family) -> dict[str, tuple[Rule, ...]]:
    return {"POSTROUTING": (Rule(tables.in_set(names.nat_pools(family), "src"), jump(NAT), "natOutgoing"),)}


def _raw_chains(family: Family, settings: Settings) -> dict[ChainName, tuple[Rule, ...]]:
    stranger = tables.in_set(names.local(family), "src", "src", negate=True)
    six = family is Family.IPV6
    spoofed = goto(STRANGER) if six else DROP
    chains = {
        PREROUTING: (
            Rule(stranger, spoofed, "source of no pod there"),
            Rule(is_vxlan(settings), DROP, "no VXLAN from pods"),
            Rule(tables.protocol(_IP_IN_IP), DROP, "no IP in IP from pods"),
        ),
        FOREIGN: (
            Rule(tables.interface_in("lo"), RETURN, "the node to itself"),
            Rule((), DROP, "source of a local pod, from elsewhere"),
        ),
    }
    if six:
        icmp = tables.protocol("ipv6-icmp")
        chains[STRANGER] = (
            Rule((*tables.source("fe80::/10"), *icmp), RETURN, "neighbour discovery"),
            Rule((*tables.source("::/128"), *icmp), RETURN, "duplicate address detection, MLD"),
            Rule((), DROP, "source of no pod there"),
        )
    return chains


def _raw_hooks(family: Family) -> dict[str, tuple[Rule, ...]]:
    pods = tables.in_set(names.pods(family), "src")
    return {
        "PREROUTING": (
            Rule(_FROM_POD, jump(PREROUTING), "from pods"),
            Rule((*_NOT_FROM_POD, *pods), jump(FOREIGN), "source of a local pod, not from a pod"),
        )
    }


def _mangle_chains(family: Family, settings: Settings) -> dict[ChainName, tuple[Rule, ...]]:
    clear = Rule((), settings.clear(), "no other mark counts")
    reply = Rule(_REPLY, goto(names.ALLOW), "replies and related errors")
    egress, ingress = jump(names.EGRESS.chain), jump(names.INGRESS.chain)
    hairpin = (*_FROM_POD, *_TO_POD, *tables.in_set(names.local(family), "src", "dst"))
    return {
        names.ALLOW: (Rule((), settings.allow(), "allow"),),
        FORWARD: (
            clear,
            reply,
            Rule(tables.connection_state("INVALID"), DROP, "what conntrack cannot place"),
            Rule(hairpin, goto(names.ALLOW), "back to its sender"),
            Rule(_FROM_POD, egress, "egress of the sender"),
            Rule(_TO_POD, ingress, "ingress of the receiver"),
        ),
        INPUT: (clear, *_neighbour_rules(family), reply, Rule((), egress, "egress of the sender")),
        OUTPUT: (
            Rule(_REPLY, RETURN, "replies and related errors"),
            Rule((), ingress, "ingress of the receiver"),
        ),
        POSTROUTING: (Rule((), settings.clear(), "the mark leaves the packet"),),
    }


def _neighbour_rules(family: Family) -> tuple[Rule, ...]:
    """What a pod's link needs, and what nobody may tell its router; conntrack calls redirects RELATED."""
    if family is Family.IPV4:
        return (Rule(tables.icmp_type("redirect"), DROP, "redirect"),)
    needed = {
        _ROUTER_SOLICITATION: "router solicitation",
        _NEIGHBOUR_SOLICITATION: "neighbour solicitation",
        _NEIGHBOUR_ADVERTISEMENT: "neighbour advertisement",
    }
    return (
        *(Rule(tables.icmpv6_type(kind, hop_limit=255), goto(names.ALLOW), note) for kind, note in needed.items()),
        Rule(tables.icmpv6_type(_ROUTER_ADVERTISEMENT), DROP, "router advertisement"),
        Rule(tables.icmpv6_type(_REDIRECT), DROP, "redirect"),
    )


def _mangle_hooks(family: Family, settings: Settings) -> dict[str, tuple[Rule, ...]]:
    stranger = tables.in_set(names.nodes(family), "src", negate=True)
    not_local = tables.address_type("src", "LOCAL", negate=True)
    return {
        "FORWARD": (
            Rule(_FROM_POD, jump(FORWARD), "from pods"),
            Rule((*_NOT_FROM_POD, *_TO_POD), jump(FORWARD), "to pods"),
        ),
        "INPUT": (
            Rule(_FROM_POD, jump(INPUT), "from pods"),
            Rule((*is_vxlan(settings), *stranger), DROP, "VXLAN from nodes only"),
        ),
        # Not in OUTPUT: that comes before DNAT, when the way out isn't tort+ yet, and a service would go round it.
        "POSTROUTING": (
            Rule((*_TO_POD, *settings.not_allowed(), *not_local), jump(OUTPUT), "from the node, source not its own"),
            Rule(settings.allowed(), jump(POSTROUTING), "allowed"),
        ),
    }


def _filter_chains(settings: Settings) -> dict[ChainName, tuple[Rule, ...]]:
    return {
        FORWARD: (
            Rule(settings.allowed(), ACCEPT, "allowed by policy"),
            Rule((), DROP, "nobody allowed it"),
        ),
        INPUT: (
            Rule(settings.not_allowed(), DROP, "nobody allowed it"),
            Rule((), settings.clear(), "the firewall of the host decides"),
        ),
    }


def _filter_hooks() -> dict[str, tuple[Rule, ...]]:
    return {
        "FORWARD": (
            Rule(_FROM_POD, jump(FORWARD), "from pods"),
            Rule(_TO_POD, jump(FORWARD), "to pods"),
        ),
        "INPUT": (Rule(_FROM_POD, jump(INPUT), "from pods"),),
    }
