"""One kube-apiserver on a free loopback port, with certificates, RBAC, static tokens and service accounts."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from tests.kube.certs import Certs
from tests.kube.programs import APISERVER
from tests.kube.server import Server, free_port
from tests.servers.etcd import Etcd

TORTIE = "tortie"
ADMIN_TOKEN = "admin-token"  # noqa: S105
TORTIE_TOKEN = "tortie-token"  # noqa: S105
"""Of a user who may do what this product does, see `cluster.ROLE`."""
NOBODY_TOKEN = "nobody-token"  # noqa: S105
_TOKENS = f"""\
{ADMIN_TOKEN},admin,u-admin,"system:masters"
{TORTIE_TOKEN},{TORTIE},u-tortie
{NOBODY_TOKEN},nobody,u-nobody
"""
_ANSWER_S = 30


class ApiServer:
    """Made stopped; `server.start()`. Several on one `etcd` with one `prefix` are one cluster."""

    def __init__(
        self, name: str, folder: Path, certs: Certs, etcd: Etcd, *flags: str, prefix: str = "/registry"
    ) -> None:
        self.certs = certs
        self.etcd = etcd
        self.port = free_port()
        tokens = folder / "tokens.csv"
        tokens.write_text(_TOKENS)
        issuer = "https://kubernetes.default.svc"
        command = (
            *(
                APISERVER,
                "--etcd-servers",
                f"http://127.0.0.1:{etcd.members[0].port}",
                "--etcd-prefix",
                prefix,
                "--etcd-compaction-interval=0",
            ),
            *("--bind-address=127.0.0.1", "--secure-port", self.port),
            # A loopback address can't be advertised: it would point at each pod itself.
            *("--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none"),
            *("--tls-cert-file", certs.certificate("apiserver"), "--tls-private-key-file", certs.key("apiserver")),
            *("--client-ca-file", certs.authority, "--token-auth-file", tokens, "--authorization-mode=RBAC"),
            *("--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer", issuer),
            *("--service-account-key-file", certs.token_public_key),
            *("--service-account-signing-key-file", certs.token_key),
            # Its controller, which makes the accounts that pods need, doesn't run here.
            *(
                "--disable-admission-plugins=ServiceAccount",
                "--cert-dir",
                folder / f"{name}-certs",
                "--profiling=false",
            ),
            *flags,
        )
        self.server = Server(command, folder / f"{name}.log", self._ready)

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"https://127.0.0.1:{self.port}"

    def ask(
        self,
        verb: str,
        path: str,
        sent: object = None,
        *,
        token: str = ADMIN_TOKEN,
        content: str = "application/json",
    ) -> tuple[int, Any]:
        """A request past the driver: the status and the decoded answer."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=_ANSWER_S, context=self._tls())
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": content}
            connection.request(verb, path, json.dumps(sent) if sent is not None else None, headers)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if answer.getheader("Content-Type") == "application/json" else body
        finally:
            connection.close()

    def make(self, path: str, body: object) -> Any:  # noqa: ANN401  # decoded JSON
        """Create an object that mayn't be refused."""
        status, answer = self.ask("POST", path, body)
        if status != http.client.CREATED:
            raise AssertionError(f"{path}: {answer}")
        return answer

    def kubeconfig(self, path: Path, user: dict[str, object] | None = None, *, port: int = 0) -> Path:
        """A kubeconfig at `path` for `user` (without, who may do what we do), perhaps through a proxy's `port`."""
        cluster = {
            "server": f"https://127.0.0.1:{port or self.port}",
            "certificate-authority": str(self.certs.authority),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "user", "user": user if user is not None else {"token": TORTIE_TOKEN}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user"}}],
            "current-context": "tests",
        }
        path.write_text(json.dumps(document))
        return path

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certs.authority))

    def _ready(self) -> bool:
        try:
            status, namespace = self.ask("GET", "/api/v1/namespaces/kube-system")
            return status == http.client.OK and bool(namespace) and self._says_ready()
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def _says_ready(self) -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=_ANSWER_S, context=self._tls())
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
