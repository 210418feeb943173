"""What IPAM can say no with.

    IpamError
    ├── BlockFull       this block has no address to give now
    ├── NoPool          a family was asked for that no enabled pool serves
    ├── NoAddress       every pool that may serve is exhausted
    ├── OutsidePools    an address or subnet was asked for that no enabled pool holds
    ├── AddressTaken    an address was asked for that can't be had
    ├── Frozen          the block is being copied to another datastore: nothing of it changes here any more
    ├── Migrating       the datastore is being left for another: no block is claimed
    ├── HandleBusy      somebody else works on this handle and didn't end in time
    └── NotSettled      the store's answers were lost again and again; the outcome isn't known

Errors of the store pass through as they are.
"""

from ipaddress import IPv4Network, IPv6Network


class IpamError(Exception):
    """Every error of this package."""


class BlockFull(IpamError):
    """Every address of `cidr` is taken, or too recently released."""

    def __init__(self, cidr: IPv4Network | IPv6Network) -> None:
        super().__init__(f"block {cidr} has no free address")
        self.cidr = cidr


class NoPool(IpamError):
    """No enabled pool serves `family` (4 or 6), among those asked for."""

    def __init__(self, family: int, asked: tuple[str, ...], why: str = "") -> None:
        among = f" among {', '.join(asked)}" if asked else " serves here"
        hint = why or "`tortiectl get ippools` lists them"
        super().__init__(f"no enabled IPv{family} pool{among}; {hint}")
        self.family = family
        self.asked = asked


class NoAddress(IpamError):
    """The pools that may serve `family` have nothing left: neither a free address of this node nor a free block."""

    def __init__(self, family: int, pools: tuple[str, ...], why: str = "") -> None:
        super().__init__(f"no free IPv{family} address in {', '.join(pools)}{f' ({why})' if why else ''}")
        self.family = family
        self.pools = pools


class OutsidePools(IpamError):
    """No enabled pool of the family has an address of what was asked for."""

    def __init__(self, asked: str) -> None:
        super().__init__(f"no enabled pool holds {asked}; `tortiectl get ippools` lists them")
        self.asked = asked


class AddressTaken(IpamError):
    """The very address that was asked for can't be had: it is `holder`'s, or `why` says what else keeps it."""

    def __init__(self, address: str, why: str, holder: str = "") -> None:
        super().__init__(f"{address} {why}")
        self.address = address
        self.holder = holder
        """The owner's handle, where there is one."""


class Frozen(IpamError):
    """A migration to another datastore froze `block`: nothing is given, adopted or freed until it is over."""

    def __init__(self, block: str, migration: str) -> None:
        super().__init__(
            f"block {block} is frozen: the datastore is being moved (migration {migration}); try again when it is over"
        )
        self.block = block
        self.migration = migration


class Migrating(IpamError):
    """A migration to another datastore is under way: no block is claimed until it is over."""

    def __init__(self, migration: str) -> None:
        super().__init__(
            f"no block can be claimed: the datastore is being moved (migration {migration}); try again when it is over"
        )
        self.migration = migration


class HandleBusy(IpamError):
    """Another call for `handle` is still under way."""

    def __init__(self, handle: str) -> None:
        super().__init__(f"another call for {handle} is still under way")
        self.handle = handle


class NotSettled(IpamError):
    """After `tries` tries it is still not known whether a write on `block` was applied."""

    def __init__(self, block: str, tries: int) -> None:
        super().__init__(f"the datastore's answers about block {block} were lost {tries} times")
        self.block = block
        self.tries = tries
