"""ClusterConfiguration: what holds for the whole cluster; one object, called "default"."""

from typing import ClassVar

from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.value import Kind, Resource, Value, check_below

NAME = "default"
COOLDOWN_MAX_S = 1200
"""Twenty minutes: the longest a freed address waits; longer, and a busy /26 runs dry of ordinary churn."""
GRACE_MIN_S = 10
"""A pod that has just been given an address isn't in the API yet; nobody can be that fast."""
PHASES = ("Frozen", "Moved")


class Migration(Value, frozen=True, kw_only=True):
    """This datastore is being left for another: nothing is given, taken back or claimed here any more."""

    id: str
    """Drawn by who migrates; the frozen blocks carry it."""
    to: str
    """The other datastore's address."""
    phase: str = "Frozen"
    """Frozen while everything is copied; Moved once the other one counts."""

    def check(self) -> None:
        """Judge the phase.

        Raises:
            Invalid: names the field within the migration.
        """
        if not self.id or not self.to:
            raise Invalid("to" if self.id else "id", "is empty")
        if self.phase not in PHASES:
            raise names.invalid("phase", self.phase, f"is none of {', '.join(PHASES)}")


class ClusterConfigurationSpec(Value, frozen=True, kw_only=True):
    """Settings of address management."""

    strict_affinity: bool = False
    """A node uses its own blocks alone and never borrows."""
    cooldown_seconds: int = 30
    """How long a freed address isn't given again, so that peers forget it (conntrack, DNS)."""
    max_blocks_per_node: int = 0
    """How many blocks of one family a node may have; 0: as many as it needs."""
    reclaim_grace_seconds: int = 300
    """How long an address must have looked ownerless to one observer before it is taken back."""
    migration: Migration | None = None

    def check(self) -> None:
        """Judge the numbers, and the migration if there is one.

        Raises:
            Invalid: names the field within the spec.
        """
        if not 0 <= self.cooldown_seconds <= COOLDOWN_MAX_S:
            raise names.invalid("cooldownSeconds", self.cooldown_seconds, f"is outside 0 to {COOLDOWN_MAX_S}")
        if self.max_blocks_per_node < 0:
            raise names.invalid("maxBlocksPerNode", self.max_blocks_per_node, "is negative")
        if self.reclaim_grace_seconds < GRACE_MIN_S:
            raise names.invalid("reclaimGraceSeconds", self.reclaim_grace_seconds, f"is below {GRACE_MIN_S}")
        if self.migration is not None:
            check_below(self.migration, "migration")


class ClusterConfiguration(Resource, frozen=True, kw_only=True):
    """tortie.dev/v1 ClusterConfiguration; where there is none, its defaults hold."""

    KIND: ClassVar[Kind] = Kind(
        "tortie.dev", "v1", "ClusterConfiguration", "clusterconfigurations", False, ("clusterconfig",)
    )

    spec: ClusterConfigurationSpec = ClusterConfigurationSpec()

    def check(self) -> None:
        """Judge name and spec.

        Raises:
            Invalid: names the field.
        """
        super().check()
        if self.name != NAME:
            raise names.invalid("metadata.name", self.name, f"is not {NAME!r}: there is one for the cluster")
        check_below(self.spec, "spec")
