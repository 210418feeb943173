"""What of a datastore says who has which address: the blocks, which decide it, and all that must agree with them.

Kinds are read one after the other, so they aren't one moment; `ipam.survey` looks again before it believes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.node import Node
from ipam.claims import Claims


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read, by name."""

    blocks: Mapping[str, IPBlock]
    pools: Mapping[str, IPPool]
    nodes: Mapping[str, Node]
    claims: Claims
    configuration: ClusterConfigurationSpec

    @classmethod
    def of(
        cls,
        blocks: Iterable[IPBlock],
        pools: Iterable[IPPool],
        nodes: Iterable[Node],
        claims: Claims,
        configuration: ClusterConfigurationSpec,
    ) -> "Observed":
        """What the objects say together."""
        return cls(
            {block.name: block for block in blocks},
            {pool.name: pool for pool in pools},
            {node.name: node for node in nodes},
            claims,
            configuration,
        )
