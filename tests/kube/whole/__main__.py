"""A cluster to look at: python -m tests.kube.whole [NODES [none|reference [iptables|nftables [dual]]]], as root."""

import sys

from tests.kube.programs import KUBECTL
from tests.kube.whole import reference
from tests.kube.whole.cluster import Cluster, missing


def main(size: str = "3", network: str = "reference", proxy: str = "iptables", stack: str = "") -> None:
    """Start it, say how to enter it, and keep it until Enter is pressed or standard input ends."""
    if reason := missing():
        sys.exit(reason)
    with Cluster.started(int(size), proxy=proxy, dual=stack == "dual") as cluster:
        if network == "reference":
            reference.install(cluster)
            cluster.wait_ready()
        fabric = cluster.fabric.machine
        print(f"nsenter --net=/proc/{fabric.holder}/ns/net {KUBECTL} --kubeconfig {cluster.kubeconfig} get nodes")
        for node in cluster.nodes:
            print(f"{node.name}: {' '.join(node.machine.enter())} sh")
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
