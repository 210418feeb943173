"""natOutgoing: two sets and one rule, in the families in which a pool says so, whatever the way there."""

from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.tables import Family, TableName
from policy.compiler import Compiler

POOLS = {
    "four": ip_network("10.65.0.0/16"),
    "lone": ip_network("10.66.0.1/32"),
    "six": ip_network("fd65::/48"),
    "wide": ip_network("10.65.0.0/16"),
}
Change = tuple[str, str, bool]


def told(compiler: Compiler) -> object:
    desired = compiler.desired
    sets = {name: frozenset(found.members) for name, found in desired.sets.items()}
    return sets, {key: (dict(table.chains), dict(table.hooks)) for key, table in desired.tables.items()}


def members(compiler: Compiler) -> dict[str, set[str]]:
    found = compiler.desired.sets
    return {name: set(found[name].members) for name in found if name.endswith(("-nat", "-pools"))}


def test_without_natoutgoing_there_is_nothing() -> None:
    one, fresh = Compiler("n1"), Compiler("n1")
    for name, network in POOLS.items():
        one.set_pool(name, network, nat=False)
    assert told(one) == told(fresh)


def test_one_rule_masquerades_what_goes_from_such_a_pool_to_none() -> None:
    one = Compiler("n1")
    one.set_pool("four", POOLS["four"], nat=True)
    one.set_pool("lone", POOLS["lone"], nat=False)
    one.set_pool("six", POOLS["six"], nat=False)
    assert members(one) == {"tt4-nat": {"10.65.0.0/16"}, "tt4-pools": {"10.65.0.0/16", "10.66.0.1"}}
    table = one.desired.tables[Family.IPV4, TableName.NAT]
    lines = [rule.line("-A").split() for chain in table.chains.values() for rule in chain.rules]
    assert [line[-2:] for line in lines] == [["-j", "RETURN"], ["MASQUERADE", "--random-fully"]]
    assert "tt4-nat" in table.hooks["POSTROUTING"][0].line("-A")
    assert (Family.IPV6, TableName.NAT) not in one.desired.tables


CHANGES = st.lists(st.tuples(st.sampled_from(sorted(POOLS)), st.sampled_from(["set", "remove"]), st.booleans()))


@given(CHANGES)
@settings(max_examples=60)
def test_what_is_desired_follows_from_the_pools_alone(path: list[Change]) -> None:
    walked, fresh, last = Compiler("n1"), Compiler("n1"), dict[str, bool]()
    for name, what, nat in path:
        if what == "set":
            walked.set_pool(name, POOLS[name], nat=nat)
            last[name] = nat
        else:
            walked.remove_pool(name)
            last.pop(name, None)
    for name, nat in last.items():
        fresh.set_pool(name, POOLS[name], nat=nat)
    assert told(walked) == told(fresh)
