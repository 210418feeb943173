"""Sixty pods from nothing to ready on a real Kubernetes: with tortie, and with the bridge and host-local plugins.

    make image && python -m bench.pod_start [--rounds 3]      as root

Two clusters of three nodes, side by side, kubelet, containerd and kube-proxy on each; in each round one Deployment goes
to sixty pods and back to none on the one, then on the other, in turn. A pod is ready once the kubelet has reached it
over the pod network. Only one cluster has work at a time; the other one's programs idle beside it.
"""

import argparse
import os
import sys
from contextlib import ExitStack

from bench.report import Summary, circumstances, ratio
from bench.sandbox import enter
from tests.e2e import sixty, tortie
from tests.kube.whole import reference
from tests.kube.whole.cluster import Cluster, missing


def timed(cluster: Cluster) -> float:
    """Seconds from the scaling to sixty pods being ready; none is left afterwards."""
    _, seconds = sixty.up(cluster)
    sixty.scale(cluster, 0)
    sixty.until_gone(cluster)
    return seconds


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if reason := missing() or tortie.missing():
        sys.exit(reason)
    enter("bench.pod_start")
    print("; ".join(f"{key} {value}" for key, value in circumstances().items()))
    with ExitStack() as stack:
        theirs = stack.enter_context(Cluster.started())
        reference.install(theirs)
        theirs.wait_ready()
        ours = stack.enter_context(Cluster.started())
        installed = tortie.install(ours)
        print(f"install: {installed.seconds:.1f} s from kubectl apply to three Ready nodes")
        for cluster in (ours, theirs):
            sixty.make(cluster)
            timed(cluster)  # warms up: images, caches
        seconds: dict[str, list[float]] = {"tortie": [], "bridge + host-local": []}
        for number in range(rounds):
            turns = [("tortie", ours), ("bridge + host-local", theirs)]
            for name, cluster in turns if number % 2 else turns[::-1]:
                seconds[name].append(timed(cluster))
    for name, each in seconds.items():
        print(f"{name:>20}  sixty pods ready: {', '.join(f'{one:.1f}' for one in each)} s")
    found = {name: Summary.of(each) for name, each in seconds.items()}
    print(f"ratio of medians {ratio(found['tortie'], found['bridge + host-local'])}; load at the end {os.getloadavg()}")


if __name__ == "__main__":
    main()
