"""What a node's programs are told: containerd's, the kubelet's and kube-proxy's configuration.

Sources: kubelet.config.k8s.io/v1beta1, kubeproxy.config.k8s.io/v1alpha1; containerd 1.6 docs/cri/config.md; what it
takes on a machine without CAP_SYS_RESOURCE, AppArmor and systemd was found by trying.
"""

from pathlib import Path
from typing import Any

from tests.kube.whole.addresses import DNS_SERVICE
from tests.kube.whole.images import PAUSE

CNI_BIN = "/opt/cni/bin"
CNI_CONFIG = "/etc/cni/net.d"
STATIC_PODS = "/etc/kubernetes/manifests"
"""A kubelet runs what lies here without asking the API."""

CONTAINERD = f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BIN}"
    conf_dir = "{CNI_CONFIG}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


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
