"""The network to compare with: the reference plugins bridge, host-local and portmap, and static routes."""

import json

from tests.kube.whole import addresses
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.fabric import ip_batch
from tests.kube.whole.settings import CNI_CONFIG

CONFLIST = f"{CNI_CONFIG}/10-reference.conflist"


def install(cluster: Cluster) -> None:
    """Give every node its part of the pods' network, and routes to the others'."""
    ways = {addresses.reference_pods(number): node.address for number, node in enumerate(cluster.nodes, 1)}
    for number, node in enumerate(cluster.nodes, 1):
        own = addresses.reference_pods(number)
        node.machine.write(CONFLIST, json.dumps(_conflist(own)))
        ip_batch(node.machine, *(f"route replace {cidr} via {via}" for cidr, via in ways.items() if cidr != own))
        cluster.fabric.route(own, node.address)


def remove(cluster: Cluster) -> None:
    """Take it away, once no pod uses it any more."""
    for node in cluster.nodes:
        node.machine.at(CONFLIST).unlink()
        node.machine.said("ip", "link", "del", "cni0")
        for number in range(1, len(cluster.nodes) + 1):
            node.machine.said("ip", "route", "del", addresses.reference_pods(number))


def _conflist(cidr: str) -> dict[str, object]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": cidr}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "reference", "plugins": [bridge, portmap]}
