"""What the demo shows: a shop of three pods on three nodes, one policy, and who reaches whom."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab import pods, probing
from lab.state import Folder, LabState

POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db-allow-api
  namespace: shop
spec:
  podSelector:
    matchLabels: {app: db}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector:
        matchLabels: {app: api}
    ports:
    - {port: postgres, protocol: TCP}
"""
PODS = (
    pods.NewPod("shop", "web", "node-1", {"app": "web"}, (pods.Port(8080, name="http"),)),
    pods.NewPod("shop", "api", "node-2", {"app": "api"}, (pods.Port(8080, name="http"),)),
    pods.NewPod("shop", "db", "node-3", {"app": "db"}, (pods.Port(5432, name="postgres"), pods.Port(53, "UDP"))),
)
_TARGETS = {"TCP": probing.Target(5432, "TCP"), "HTTP": probing.Target(8080, "TCP"), "UDP": probing.Target(53, "UDP")}


@dataclass(frozen=True, slots=True)
class Step:
    """A probe of the demo."""

    source: str
    destination: str
    target: probing.Target


STEPS = (
    Step("web", "api", _TARGETS["HTTP"]),
    Step("api", "db", _TARGETS["TCP"]),
    Step("web", "db", _TARGETS["TCP"]),
    Step("api", "db", _TARGETS["UDP"]),
)


def make_pods(folder: Folder, state: LabState, say: Callable[[str], None]) -> None:
    """Make the demo's pods, side by side.

    Raises:
        LabError: one can't be made.
    """
    with ThreadPoolExecutor(max_workers=len(PODS)) as pool:
        made = list(pool.map(lambda wanted: pods.run(folder, state, wanted), PODS))
    for pod in made:
        say(f"{pod.namespace}/{pod.name} {' '.join(probing.addresses(folder, pod))} on {pod.node}")


def try_all(folder: Folder, state: LabState) -> list[list[probing.Outcome]]:
    """Every probe of the demo, side by side, in order.

    Raises:
        LabError: a probe couldn't be made.
    """

    def attempt(step: Step) -> list[probing.Outcome]:
        return probing.probe(folder, state, ("shop", step.source), ("shop", step.destination), step.target)

    with ThreadPoolExecutor(max_workers=len(STEPS)) as pool:
        return list(pool.map(attempt, STEPS))
