"""tortie's own objects in a Kubernetes cluster, and the little of Kubernetes' that tools read of it.

The names are those of `manifests/`; which pods are agents is read from the DaemonSet, not guessed.
"""

from collections.abc import Mapping, Sequence

import click
import msgspec

from datastore.kubernetes.requests import Requests
from datastore.resources import names

NAMESPACE = "tortie-system"
AGENT = "tortie-agent"
CONTROLLER = "tortie-controller"
HTTP_PORT = 9470
"""Of each agent: /readyz says why it isn't ready."""

namespace_option = click.option(
    "-n",
    "--namespace",
    default=NAMESPACE,
    show_default=True,
    callback=lambda _, __, name: _checked(name),
    help="Where tortie's own pods are, on Kubernetes.",
)


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """metav1.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = {}
    uid: str = ""


class Condition(msgspec.Struct, frozen=True):
    """Of a Node or a Pod."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class Detail(msgspec.Struct, frozen=True, rename="camel"):
    """Why a container waits, or how it ended."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0


class ContainerState(msgspec.Struct, frozen=True, rename="camel"):
    """One of waiting, running, terminated."""

    waiting: Detail | None = None
    terminated: Detail | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """core/v1 ContainerStatus."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()


class PodIP(msgspec.Struct, frozen=True):
    """core/v1 PodIP."""

    ip: str = ""


class PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    """core/v1 PodStatus."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ips: Sequence[PodIP] = msgspec.field(default=(), name="podIPs")
    conditions: Sequence[Condition] = ()
    init_container_statuses: Sequence[ContainerStatus] = ()
    container_statuses: Sequence[ContainerStatus] = ()


class Container(msgspec.Struct, frozen=True):
    """core/v1 Container."""

    name: str = ""
    image: str = ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """core/v1 PodSpec."""

    node_name: str = ""
    init_containers: Sequence[Container] = ()
    containers: Sequence[Container] = ()


class PodSeen(msgspec.Struct, frozen=True):
    """core/v1 Pod."""

    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Whether its condition Ready is true."""
        return condition(self.status.conditions, "Ready").status == "True"

    @property
    def ended(self) -> bool:
        """Whether its containers won't run any more."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def last_words(self) -> str:
        """What its first container left in its termination message."""
        for one in self.status.container_statuses:
            if one.state.terminated is not None:
                return one.state.terminated.message
        return ""


class Selector(msgspec.Struct, frozen=True, rename="camel"):
    """metav1.LabelSelector, as DaemonSets of ours have it."""

    match_labels: Mapping[str, str] = {}


class Template(msgspec.Struct, frozen=True):
    """core/v1 PodTemplateSpec."""

    spec: PodSpec = PodSpec()


class DaemonSetSpec(msgspec.Struct, frozen=True):
    """apps/v1 DaemonSetSpec, or a Deployment's."""

    selector: Selector = Selector()
    template: Template = Template()


class DaemonSet(msgspec.Struct, frozen=True):
    """apps/v1 DaemonSet."""

    metadata: Meta = Meta()
    spec: DaemonSetSpec = DaemonSetSpec()


class NodeStatus(msgspec.Struct, frozen=True):
    """core/v1 NodeStatus."""

    conditions: Sequence[Condition] = ()


class NodeSpec(msgspec.Struct, frozen=True):
    """core/v1 NodeSpec."""

    unschedulable: bool = False


class NodeSeen(msgspec.Struct, frozen=True):
    """core/v1 Node."""

    metadata: Meta = Meta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


def condition(conditions: Sequence[Condition], kind: str) -> Condition:
    """The condition of a type; an empty one where it isn't told."""
    return next((one for one in conditions if one.type == kind), Condition())


def why(pod: PodSeen) -> str:
    """Why a pod isn't ready, as far as Kubernetes knows."""
    for one in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        if one.state.waiting is not None and one.state.waiting.reason != "PodInitializing":
            return f"container {one.name} waits: {one.state.waiting.reason} {one.state.waiting.message}".strip()
        ended = one.state.terminated
        if ended is not None and ended.exit_code:
            return f"container {one.name} ended with {ended.exit_code}: {ended.message or ended.reason}"
    unmet = [one for one in pod.status.conditions if one.status != "True" and one.message]
    return pod.status.message or "; ".join(one.message for one in unmet[:1]) or f"pod {pod.status.phase or 'unknown'}"


async def daemonset(requests: Requests, namespace: str) -> DaemonSet | None:
    """The agents' DaemonSet, None where there is none.

    Raises:
        StoreError: it can't be read.
    """
    return await requests.read(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{AGENT}", DaemonSet)


async def agents(requests: Requests, namespace: str, of: DaemonSet) -> list[PodSeen]:
    """The agents' pods.

    Raises:
        StoreError: they can't be read.
    """
    labels = ",".join(f"{key}={value}" for key, value in sorted(of.spec.selector.match_labels.items()))
    return await requests.items(f"/api/v1/namespaces/{namespace}/pods", PodSeen, {"labelSelector": labels})


def _checked(name: str) -> str:
    names.check_label_name(name, "--namespace")
    return name
