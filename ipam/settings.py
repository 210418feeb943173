"""What the administrators of a cluster say of address management: ClusterConfiguration, as the allocator needs it."""

from dataclasses import dataclass

from datastore.resources.clusterconfiguration import ClusterConfigurationSpec

DEFAULT_COOLDOWN_S = 30.0
"""How long a released address rests: as long as an unanswered UDP flow lives in conntrack."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How addresses are given."""

    strict_affinity: bool = False
    cooldown_s: float = DEFAULT_COOLDOWN_S
    migration: str = ""
    """The migration to another datastore that is under way: no block is claimed."""
    max_blocks: int = 0
    """How many blocks of one family a node may have; 0: as many as it needs."""

    @classmethod
    def of(cls, spec: ClusterConfigurationSpec) -> "Settings":
        """What an object of the store says."""
        migration = spec.migration.id if spec.migration is not None else ""
        return cls(spec.strict_affinity, spec.cooldown_seconds, migration, spec.max_blocks_per_node)
