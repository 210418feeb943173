"""Who had an address, and when."""

from ipaddress import ip_address, ip_network

from datastore.resources.ipblock import IPBlock
from ipam import history
from ipam.block import Block, Owner, new_block

NOW = 1_000_000.0
WEB, DB = Owner("net:c1:eth0", "node-1", "web", "shop"), Owner("net:c2:eth0", "node-2", "db", "shop")
BY_HAND = Owner("manual/vip", "node-1")


def lived() -> IPBlock:
    """One address: web, then db of another node, then by hand; now web's again, in another container."""
    made = new_block(ip_network("10.65.0.0/32"), "p", "node-1", "m", NOW).made_ready()
    for number, owner in enumerate((WEB, DB, BY_HAND)):
        made, held = made.assign(owner, f"{number:016x}", NOW + number * 100, 0)
        made = made.release(held.ordinal, held.id, NOW + number * 100 + 50)
    return made.assign(Owner("net:c9:eth0", "node-1", "web", "shop"), f"{9:016x}", NOW + 900, 0)[0].record


def other() -> Block:
    made = new_block(ip_network("fd65::/128"), "p6", "node-1", "m", NOW).made_ready()
    return made.assign(WEB, f"{1:016x}", NOW + 10, 0)[0]


def test_an_address_tells_its_owners_in_their_order_the_present_one_last() -> None:
    told = history.of_address([other().record, lived()], ip_address("10.65.0.0"))
    assert [(one.namespace, one.pod, one.handle, one.node, one.since - NOW, one.until) for one in told] == [
        ("shop", "web", "", "node-1", 0, NOW + 50),
        ("shop", "db", "", "node-2", 100, NOW + 150),
        ("", "", "manual/vip", "node-1", 200, NOW + 250),
        ("shop", "web", "net:c9:eth0", "node-1", 900, None),
    ]
    assert {(str(one.address), one.block) for one in told} == {("10.65.0.0", "10-65-0-0-32")}


def test_a_pod_tells_its_addresses_of_every_family_and_time() -> None:
    told = history.of_pod([lived(), other().record], "shop", "web")
    assert [(str(one.address), one.since - NOW) for one in told] == [
        ("10.65.0.0", 0),
        ("fd65::", 10),
        ("10.65.0.0", 900),
    ]
    assert history.of_pod([lived()], "other", "web") == ()


def test_what_was_taken_by_hand_is_found_by_its_handle() -> None:
    (told,) = history.of_handle([lived(), other().record], "manual/vip")
    assert (told.since, told.until) == (NOW + 200, NOW + 250)


def test_an_address_of_no_block_was_nobodys() -> None:
    assert history.of_address([lived()], ip_address("10.65.0.1")) == ()
