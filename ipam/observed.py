"""What of a datastore says who has which address: the blocks, which decide it, and all that must agree with them.

    IPPool            which blocks there may be
    IPBlock           who owns what
    Node              whose blocks they are, and what peers make routes of
    endpoint, pod     who says that it has an address: a `Claim`

Kinds are read one after the other, so they aren't one moment; `ipam.survey` looks again before it believes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from datastore.resources.clusterconfiguration import ClusterConfigurationSpec
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import IPPool
from datastore.resources.kubernetes import Pod
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from ipam.block import Address

_ENDED = ("Succeeded", "Failed")
"""Phases of pods whose sandbox is gone (core/v1 PodPhase): such a Pod keeps telling the address that it had."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody's word that an address is in use. Fields that its kind doesn't tell are empty."""

    who: str
    """The object, as messages name it."""
    address: Address
    node: str
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    handle: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read, by name."""

    blocks: Mapping[str, IPBlock]
    pools: Mapping[str, IPPool]
    nodes: Mapping[str, Node]
    claims: tuple[Claim, ...] = ()
    pods: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Every Pod that hasn't ended, whether it tells an address or not: its uid by namespace and name."""
    configuration: ClusterConfigurationSpec = field(default_factory=ClusterConfigurationSpec)


def observed(
    blocks: Iterable[IPBlock],
    pools: Iterable[IPPool],
    nodes: Iterable[Node],
    endpoints: Iterable[WorkloadEndpoint] = (),
    pods: Iterable[Pod] = (),
    configuration: ClusterConfigurationSpec | None = None,
) -> Observed:
    """What the objects say together."""
    by_name = {node.name: node for node in nodes}
    living = [pod for pod in pods if pod.status.phase not in _ENDED]
    tellers: list[Resource] = [*endpoints, *living, *by_name.values()]
    return Observed(
        blocks={block.name: block for block in blocks},
        pools={pool.name: pool for pool in pools},
        nodes=by_name,
        claims=tuple(claim for teller in tellers for claim in claims_of(teller)),
        pods={(pod.namespace, pod.name): pod.metadata.uid for pod in living},
        configuration=configuration or ClusterConfigurationSpec(),
    )


def claims_of(resource: Resource) -> Iterator[Claim]:
    """The addresses that an endpoint, a Pod or a Node (its tunnel's) says it has."""
    match resource:
        case WorkloadEndpoint():
            spec = resource.spec
            handle = f"{spec.network}:{spec.container_id}:{spec.interface}"
            for text in spec.addresses:
                yield Claim(resource.key, ip_address(text), spec.node, resource.namespace, spec.pod, handle=handle)
        case Pod() if not resource.spec.host_network:
            where = resource.spec.node_name, resource.namespace, resource.name, resource.metadata.uid
            told = {one.ip for one in resource.status.pod_ips} | {resource.status.pod_ip}
            for text in sorted(told - {""}):
                yield Claim(resource.key, ip_address(text), *where)
        case Node():
            for text in resource.spec.tunnel_addresses:
                yield Claim(resource.key, ip_address(text), resource.name)
        case _:
            return
