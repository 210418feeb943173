"""What a node's programs are told: containerd's, the kubelet's and kube-proxy's configuration.

Sources: kubelet.config.k8s.io/v1beta1, kubeproxy.config.k8s.io/v1alpha1. containerd's has its text in tests/runtimes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kube.whole.addresses import DNS_SERVICE
from tests.kube.whole.images import PAUSE
from tests.runtimes.containerd import configuration

CNI_BIN = "/opt/cni/bin"
CNI_CONFIG = "/etc/cni/net.d"
STATIC_PODS = "/etc/kubernetes/manifests"
"""A kubelet runs what lies here without asking the API."""


@dataclass(frozen=True, slots=True)
class CniFolders:
    """Where containerd looks for plugins, and for what they are told."""

    bin: str = CNI_BIN
    config: str = CNI_CONFIG


K3S = CniFolders("/var/lib/rancher/k3s/data/cni", "/var/lib/rancher/k3s/agent/etc/cni/net.d")
"""k3s' own (k3s-io/k3s pkg/daemons/agent, pkg/cli/agent; releases since October 2024)."""


def containerd(cni: CniFolders) -> str:
    """Of a containerd that takes pods' networks from there."""
    return configuration(Path("/run/containerd/containerd.sock"), PAUSE, "overlayfs", cni.bin, cni.config)


def kubelet(address: str, cgroup: str, authority: Path) -> dict[str, Any]:
    """Of a kubelet whose pods are in a cgroup of the cluster's, and which knows clients by their CA."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "enforceNodeAllocatable": ["pods"],
        "localStorageCapacityIsolation": False,
        "oomScoreAdj": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": "/etc/kubernetes/resolv.conf",
        "staticPodPath": STATIC_PODS,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi"},
        "nodeStatusUpdateFrequency": "5s",
    }


def proxy(mode: str, node: str, address: str, kubeconfig: Path) -> dict[str, Any]:
    """Of kube-proxy in a mode: iptables, nftables."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "healthzBindAddress": f"{address}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": mode,
        "hostnameOverride": node,
        # The limits are the whole kernel's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:tortie-system"]}, {"level": "None"}],
}
"""What the API server notes of requests: who asked what, for our own programs."""
