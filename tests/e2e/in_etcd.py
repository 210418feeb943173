"""A cluster whose network is in an etcd: that etcd, tortie installed by the overlay, and what tortiectl says of it."""

import json
import os
from ipaddress import ip_network
from pathlib import Path

from tests.e2e import tortie
from tests.host import BIN
from tests.kube.programs import ETCD
from tests.kube.server import wait_for
from tests.kube.whole import addresses
from tests.kube.whole.api import Document
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.machine import ran, succeeded

PORT = 12379
OVERLAY = tortie.MANIFESTS / "overlays" / "etcd"
_IN_PODS = "/etc/tortie-etcd"
_LIMIT_S = 60.0


class Etcd:
    """One member in the fabric, which asks for certificates."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._certs = certs = cluster.certs
        certs.issue("tortie-etcd", "/CN=tortie-etcd", f"IP:{addresses.FABRIC}")
        certs.issue("tortie", "/CN=tortie")
        url, peer = f"https://{addresses.FABRIC}:{PORT}", "http://127.0.0.1:12380"
        machine = cluster.fabric.machine
        self.program = machine.program(
            "tortie-etcd",
            *(ETCD, "--data-dir", cluster.folder / "tortie-etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}", "--client-cert-auth"),
            *("--cert-file", certs.certificate("tortie-etcd"), "--key-file", certs.key("tortie-etcd")),
            *("--trusted-ca-file", certs.authority),
        )
        client = ("--cacert", certs.authority, "--cert", certs.certificate("tortie"), "--key", certs.key("tortie"))
        self.program.start()
        self.program.wait(lambda: machine.said("curl", "-sf", *client, f"{url}/health").status == 0)

    def url(self, *, in_pods: bool) -> str:
        """Its address, with the files of a pod or those of the test."""
        files = {
            "ca": (f"{_IN_PODS}/ca.crt", self._certs.authority),
            "cert": (f"{_IN_PODS}/tls.crt", self._certs.certificate("tortie")),
            "key": (f"{_IN_PODS}/tls.key", self._certs.key("tortie")),
        }
        parameters = "&".join(f"{name}={inside if in_pods else here}" for name, (inside, here) in files.items())
        return f"etcds://{addresses.FABRIC}:{PORT}/tortie?{parameters}"

    def tortiectl(self, *arguments: str, stdin: str = "") -> str:
        """What tortiectl says about it, which must succeed; in the fabric's network."""
        command = (*self._cluster.fabric.machine.enter(only_network=True), str(BIN / "tortiectl"), *arguments)
        argv = (*command, "--datastore", self.url(in_pods=False))
        return succeeded(ran(argv, stdin, _LIMIT_S), arguments)

    def items(self, plural: str) -> list[Document]:
        """All objects of a kind."""
        found = json.loads(self.tortiectl("get", plural, "-A", "-o", "json"))
        return list(found["items"])

    def owned(self) -> dict[str, str]:
        """Who owns which address, as blocks say: namespace/name of the pod."""
        return {
            str(ip_network(block["spec"]["cidr"])[int(ordinal)]): f"{found.get('namespace')}/{found.get('pod')}"
            for block in self.items("ipblocks")
            for ordinal, found in block["spec"].get("allocations", {}).items()
        }


def install(cluster: Cluster, etcd: Etcd, folder: Path) -> None:
    """What docs/kubernetes.md says of an etcd, with a kustomization of one's own beside the manifests."""
    cluster.load(tortie.IMAGE)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(OVERLAY, folder)],
        "configMapGenerator": [
            {
                "name": "tortie-datastore",
                "namespace": tortie.NAMESPACE,
                "behavior": "merge",
                "literals": [f"TORTIE_DATASTORE={etcd.url(in_pods=True)}"],
            }
        ],
        "generatorOptions": {"disableNameSuffixHash": True},
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    cluster.kubectl("apply", "--server-side", "-k", folder)
    certs = cluster.certs
    files = {"ca.crt": certs.authority, "tls.crt": certs.certificate("tortie"), "tls.key": certs.key("tortie")}
    given = [f"--from-file={name}={path}" for name, path in files.items()]
    cluster.kubectl("-n", tortie.NAMESPACE, "create", "secret", "generic", "tortie-etcd", *given)
    try:
        cluster.wait_ready()
    except AssertionError as error:
        raise AssertionError(f"{error}\n{tortie.trouble(cluster)}") from None
    for program in (f"daemonset/{tortie.AGENT}", f"deployment/{tortie.CONTROLLER}"):
        cluster.kubectl("-n", tortie.NAMESPACE, "rollout", "status", program, "--timeout=120s")
    wait_for("the defaults", lambda: etcd.items("ippools") != [])
