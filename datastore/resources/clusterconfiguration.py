"""ClusterConfiguration: what holds for the whole cluster; one object, called "default"."""

from typing import ClassVar

from datastore.resources import names
from datastore.resources.value import Kind, Resource, Value, check_below

NAME = "default"
COOLDOWN_MAX_S = 1200
"""Twenty minutes: the longest a freed address waits; longer, and a busy /26 runs dry of ordinary churn."""


class ClusterConfigurationSpec(Value, frozen=True, kw_only=True):
    """Settings of address management."""

    strict_affinity: bool = False
    """A node uses its own blocks alone and never borrows."""
    cooldown_seconds: int = 30
    """How long a freed address isn't given again, so that peers forget it (conntrack, DNS)."""

    def check(self) -> None:
        """Judge the numbers.

        Raises:
            Invalid: names the field within the spec.
        """
        if not 0 <= self.cooldown_seconds <= COOLDOWN_MAX_S:
            raise names.invalid("cooldownSeconds", self.cooldown_seconds, f"is outside 0 to {COOLDOWN_MAX_S}")


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
