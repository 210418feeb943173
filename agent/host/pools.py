"""The address pools that a host is to have: made where they are missing, refused where another is in the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from agent.host.errors import HostError
from datastore.errors import AlreadyExists
from datastore.resources import names
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from datastore.store import Reader, Store
from ipam.block import Network


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What is to be made, and which families pods get addresses of."""

    missing: tuple[IPPool, ...]
    families: frozenset[int]


def checked(texts: Sequence[str]) -> tuple[Network, ...]:
    """The CIDRs of --pool, each once.

    Raises:
        Invalid: one is no CIDR for pods.
        HostError: two overlap.
    """
    networks = tuple(dict.fromkeys(names.parse_cidr(text, "--pool") for text in texts))
    for place, one in enumerate(networks):
        IPPoolSpec(cidr=str(one)).check()
        for other in networks[:place]:
            if one.overlaps(other):
                raise HostError(f"--pool {one} overlaps --pool {other}")
    return networks


async def plan(reader: Reader, wanted: Sequence[Network]) -> PoolPlan:
    """What to do so that pods get addresses of `wanted`, or, without any, of the pools that are there.

    Raises:
        HostError: a pool is in the way, disabled, or there is none at all.
        StoreError: the store can't be read.
    """
    there = (await reader.list(IPPool)).items
    if not wanted:
        families = frozenset(ip_network(pool.spec.cidr).version for pool in there if not pool.spec.disabled)
        if not families:
            raise HostError("the datastore has no pool to take addresses from", "give one: --pool 10.65.0.0/16")
        return PoolPlan((), families)
    taken = {pool.name for pool in there}
    missing = []
    for network in wanted:
        if not _is_there(network, there):
            pool = IPPool(metadata=Metadata(name=_name(network, taken)), spec=IPPoolSpec(cidr=str(network)))
            taken.add(pool.name)
            missing.append(pool)
    return PoolPlan(tuple(missing), frozenset(network.version for network in wanted))


async def make(store: Store, pool: IPPool) -> bool:
    """Make a pool; False where another node's init has just made the same.

    Raises:
        HostError: the name went to another pool meanwhile.
        StoreError: the store can't be used.
    """
    try:
        await store.create(pool)
    except AlreadyExists:
        if (await store.get(IPPool, pool.name)).spec.cidr == pool.spec.cidr:
            return False
        raise HostError(f"pool {pool.name} was made for another CIDR just now", "run this again", 1) from None
    return True


def _is_there(network: Network, there: Sequence[IPPool]) -> bool:
    """Whether a pool of just this CIDR is there.

    Raises:
        HostError: it is disabled, or one is there that overlaps.
    """
    for pool in there:
        other = ip_network(pool.spec.cidr)
        if other == network and pool.spec.disabled:
            raise HostError(f"pool {pool.name} ({other}) is there, and disabled", "enable it: tortiectl apply")
        if other == network:
            return True
        if other.version == network.version and other.overlaps(network):
            raise HostError(f"--pool {network} overlaps pool {pool.name} ({other})", "give another, or that very CIDR")
    return False


def _name(network: Network, taken: set[str]) -> str:
    """`default-ipv4` for the first pool of a family, then names that say the CIDR."""
    name = f"default-ipv{network.version}"
    if name not in taken:
        return name
    address = network.network_address
    spelled = str(address).replace(".", "-") if network.version == 4 else address.exploded.replace(":", "")
    return f"pool-{spelled}-{network.prefixlen}"
