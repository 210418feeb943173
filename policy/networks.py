"""ipBlocks as networks: the excepted parts are cut out, since a set of networks can only say what is in it."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, summarize_address_range

from kernel.tables import Family
from policy.model import Cidr, Network

Span = tuple[int, int]
"""First and last address, as numbers."""


def without_excepts(blocks: Iterable[Cidr], family: Family) -> tuple[Network, ...]:
    """The fewest networks that hold exactly what the blocks of one family hold together, in order.

    `except` takes away from its own block only: another block may hold the same addresses. Nothing may be left; and
    everything may, then the one network is /0.
    """
    kept = (span for block in blocks if block.network.version == family.value for span in _kept(block))
    address = IPv4Address if family is Family.IPV4 else IPv6Address
    return tuple(
        network for first, last in _merged(kept) for network in summarize_address_range(address(first), address(last))
    )


def _kept(block: Cidr) -> Iterator[Span]:
    """What is left of a block, gap by gap: its excepts may be thousands, so each is looked at once, in order."""
    start, end = _span(block.network)
    same = (_span(part) for part in block.excepts if part.version == block.network.version)
    for first, last in _merged(same):
        if start < first:
            yield start, min(first - 1, end)
        start = max(start, last + 1)
        if start > end:
            return
    yield start, end


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The same addresses in spans that neither overlap nor touch, in order."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged


def _span(network: Network) -> Span:
    return int(network.network_address), int(network.broadcast_address)
