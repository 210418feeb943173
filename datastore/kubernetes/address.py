"""kubernetes: - the API of the cluster that this runs in, or the one that kubectl would ask.

kubernetes:                                          in a pod its service account; else $KUBECONFIG, ~/.kube/config
kubernetes:?context=lab                              that context of $KUBECONFIG or ~/.kube/config
kubernetes:///etc/tortie/kubeconfig?qps=100          this kubeconfig

context   of the kubeconfig; its current-context without
qps       requests a second at most, twice as many in a burst; 0: no limit
timeout   seconds that a request may take, connecting included
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from datastore.errors import Invalid
from datastore.store import Store

QPS = 50.0
"""Of one process. client-go's default is 5, under which an agent's start takes seconds; kubelets have 50."""
TIMEOUT_S = 30.0
_EXAMPLE = "such as kubernetes: or kubernetes:///etc/tortie/kubeconfig?context=lab"


@dataclass(frozen=True, slots=True)
class KubernetesAddress:
    """Which API server, as whom, and how hard it may be asked; see `urls.Address`."""

    kubeconfig: Path | None = None
    """None: found when it is opened, as kubectl finds it."""
    context: str = ""
    qps: float = QPS
    timeout_s: float = TIMEOUT_S
    scheme: str = "kubernetes"
    path: None = None
    shared: bool = True

    @property
    def description(self) -> str:
        """Where its configuration is from."""
        named = f"kubeconfig {self.kubeconfig}" if self.kubeconfig else "of the pod, or of kubectl"
        return f"Kubernetes API, configuration {named}" + (f", context {self.context}" if self.context else "")

    async def open(self) -> Store:
        """The store, once its API server has answered.

        Raises:
            Invalid: the configuration can't be read.
            Unavailable: there is no configuration, or no answer.
            Forbidden: these credentials may not.
        """
        from datastore.kubernetes.store import KubernetesStore

        return await KubernetesStore.open(self)


def parse(url: str) -> KubernetesAddress:
    """The address that `url` is.

    Raises:
        Invalid: it is none; says what is wrong with it.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc or parts.fragment or "\0" in path or (path and not path.startswith("/")) or path.endswith("/"):
        raise Invalid("datastore", f"{url!r} is no address of a Kubernetes API, {_EXAMPLE}")
    settings = {"context": "", "qps": str(QPS), "timeout": str(TIMEOUT_S)}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in settings:
            raise Invalid("datastore", f"{url!r}: {name!r} is no setting ({', '.join(settings)})")
        settings[name] = value
    qps, timeout_s = _number("qps", settings["qps"]), _number("timeout", settings["timeout"])
    if not timeout_s:
        raise Invalid("datastore", "timeout: 0 leaves no time for an answer")
    return KubernetesAddress(Path(path) if path else None, settings["context"], qps, timeout_s)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise Invalid("datastore", f"{name}: {text!r} is no number from 0 on")
    return number
