"""The machine that joins the nodes: a bridge, and on it Kubernetes' control plane.

etcd ◄── kube-apiserver ◄── kube-controller-manager, kube-scheduler
"""

import json
import subprocess
from pathlib import Path

from tests.kube.programs import APISERVER, CONTROLLER_MANAGER, ETCD, SCHEDULER
from tests.kube.whole import addresses, settings
from tests.kube.whole.api import Api
from tests.kube.whole.credentials import ADMIN, Credentials
from tests.kube.whole.machine import Machine, Program

BRIDGE = "fabric0"
_ETCD_URL = "http://127.0.0.1:2379"
_ISSUER = "https://kubernetes.default.svc"


class Fabric:
    """Made empty; `begin`, `join` machines, `start` the control plane."""

    def __init__(self, machine: Machine, credentials: Credentials, folder: Path) -> None:
        self.machine = machine
        self.api = Api(machine, credentials.certs.authority, credentials.token(ADMIN))
        self._credentials = credentials
        self._folder = folder
        self.audit_log = folder / "audit.log"
        """A line for each request of our programs, see `settings.AUDIT`."""

    def begin(self) -> None:
        """Its namespaces, and the bridge."""
        self.machine.begin("mount -t tmpfs tmpfs /run")
        self._ip(
            f"link add {BRIDGE} type bridge",
            f"addr add {addresses.FABRIC}/{addresses.PREFIX_LENGTH} dev {BRIDGE}",
            f"link set {BRIDGE} up",
        )
        # What the bridge forwards between nodes is nobody's packet here.
        self.machine.said("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.ipv4.ip_forward=1")

    def join(self, other: Machine, address: str) -> None:
        """A cable from another machine's eth0, which gets the address, to the bridge."""
        self._ip(
            f"link add {other.name} type veth peer name eth0 netns {other.holder}",
            f"link set {other.name} master {BRIDGE} up",
        )
        ip_batch(
            other,
            f"addr add {address}/{addresses.PREFIX_LENGTH} dev eth0",
            "link set eth0 up",
            f"route add default via {addresses.FABRIC}",
        )

    def leave(self, name: str) -> None:
        """Pull the cable of a machine."""
        self._ip(f"link del {name}")

    def route(self, cidr: str, via: str) -> None:
        """A route of the world outside into the cluster."""
        self._ip(f"route replace {cidr} via {via}")

    # The control plane

    def start(self) -> None:
        """Start etcd and the API server, without waiting for the latter."""
        etcd = self.machine.program("etcd", *self._etcd())
        etcd.start()
        etcd.wait(lambda: self.machine.said("curl", "-sf", f"{_ETCD_URL}/health").status == 0)
        (self._folder / "audit.json").write_text(json.dumps(settings.AUDIT))
        self.machine.program("kube-apiserver", *self._apiserver()).start()

    def start_controllers(self) -> None:
        """As soon as the API server serves, start what uses it."""
        self.apiserver.wait(self.api.ready)
        for name, command in (("controller-manager", self._controllers()), ("scheduler", self._scheduler())):
            self.machine.program(f"kube-{name}", *command).start()

    def forget_history(self) -> None:
        """Have etcd forget every state but the newest, as it does every few minutes."""
        status = json.loads(self._ask_etcd("maintenance/status", {}))
        self._ask_etcd("kv/compaction", {"revision": status["header"]["revision"], "physical": True})

    def _ask_etcd(self, call: str, sent: object) -> str:
        return self.machine.run("curl", "-sf", f"{_ETCD_URL}/v3/{call}", "-d", json.dumps(sent))

    @property
    def apiserver(self) -> Program:
        """For tests that kill it."""
        return self.machine.programs["kube-apiserver"]

    def _ip(self, *lines: str) -> None:
        ip_batch(self.machine, *lines)

    def _etcd(self) -> tuple[object, ...]:
        peer = "http://127.0.0.1:2380"
        return (
            *(ETCD, "--data-dir", self._folder / "etcd", "--unsafe-no-fsync", "--watch-progress-notify-interval=5s"),
            *("--listen-client-urls", _ETCD_URL, "--advertise-client-urls", _ETCD_URL),
            *(
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                f"default={peer}",
            ),
        )

    def _apiserver(self) -> tuple[object, ...]:
        certs = self._credentials.certs
        return (
            *(APISERVER, "--etcd-servers", _ETCD_URL, "--bind-address=0.0.0.0", "--secure-port", addresses.API_PORT),
            *("--advertise-address", addresses.FABRIC, "--service-cluster-ip-range", addresses.SERVICES),
            *("--tls-cert-file", certs.certificate("apiserver"), "--tls-private-key-file", certs.key("apiserver")),
            *("--client-ca-file", certs.authority, "--token-auth-file", self._credentials.tokens),
            *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
            *("--service-account-issuer", _ISSUER, "--service-account-key-file", certs.token_public_key),
            *("--service-account-signing-key-file", certs.token_key),
            *("--kubelet-client-certificate", certs.certificate("kubelet-client")),
            *("--kubelet-client-key", certs.key("kubelet-client")),
            # Else exec and logs ask DNS for a node's name.
            "--kubelet-preferred-address-types=InternalIP",
            *("--allow-privileged=true", "--profiling=false", "--cert-dir", self._folder / "apiserver"),
            *("--audit-policy-file", self._folder / "audit.json", "--audit-log-path", self.audit_log),
        )

    def _controllers(self) -> tuple[object, ...]:
        certs = self._credentials.certs
        return (
            *(CONTROLLER_MANAGER, "--kubeconfig", self._credentials.kubeconfig("controller-manager")),
            *("--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true"),
            *("--service-account-private-key-file", certs.token_key, "--root-ca-file", certs.authority),
        )

    def _scheduler(self) -> tuple[object, ...]:
        config = self._credentials.kubeconfig("scheduler")
        return (SCHEDULER, "--kubeconfig", config, "--bind-address=127.0.0.1", "--leader-elect=false")


def ip_batch(machine: Machine, *lines: str) -> None:
    """Lines for `ip -batch` in a machine's network; PIDs in them are the real machine's."""
    command = (*machine.enter(only_network=True), "ip", "-batch", "-")
    done = subprocess.run(command, input="\n".join([*lines, ""]), capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{machine.name}: {lines}: {done.stderr}")
