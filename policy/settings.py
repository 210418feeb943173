"""What of the rules a cluster may choose."""

from dataclasses import dataclass

from kernel import tables
from policy.model import MAX_PORT

_MARK_BITS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Settings:
    """Values that stand in many rules; the mark is always set and matched under its mask, other bits stay."""

    mark: int = 0x01000000
    """What an allowed packet carries between mangle and filter; kube-proxy uses 0x4000 and 0x8000."""
    mark_mask: int = 0x0F000000
    vxlan_port: int = 4789
    """RFC 7348. Pods may not send there, and to the node only nodes may."""
    nflog_group: int = 84
    """Netlink group that is told of denied packets ('T'; kube-router listens on 100, Calico on 1 and 2)."""
    nflog_per_second: int = 10
    """How many denied packets each rule tells of at most; more are dropped just so."""

    def __post_init__(self) -> None:
        if not 0 < self.mark <= self.mark_mask <= _MARK_BITS or self.mark & ~self.mark_mask:
            raise ValueError(f"mark {self.mark:#x} must not be 0 and must lie within its mask {self.mark_mask:#x}")
        if not 1 <= self.vxlan_port <= MAX_PORT:
            raise ValueError(f"{self.vxlan_port} is no port")
        if not 0 <= self.nflog_group <= MAX_PORT:
            raise ValueError(f"{self.nflog_group} is no NFLOG group (0 to {MAX_PORT})")
        if self.nflog_per_second < 1:
            raise ValueError("nflog_per_second must be at least 1")

    def allowed(self) -> tuple[str, ...]:
        """Packets that carry our mark."""
        return tables.mark(self.mark, self.mark_mask)

    def not_allowed(self) -> tuple[str, ...]:
        """Packets that don't."""
        return tables.mark(self.mark, self.mark_mask, negate=True)

    def allow(self) -> tuple[str, ...]:
        """The target that sets our mark."""
        return tables.set_mark(self.mark, self.mark_mask)

    def clear(self) -> tuple[str, ...]:
        """The target that takes our mark, or anybody's under our mask, away."""
        return tables.set_mark(0, self.mark_mask)
