"""A test's run on Kubernetes: a namespace, servers, three acts, and the namespace deleted whatever happens.

servers   one pod a node, placed by us; a node whose server doesn't start within the limit is told and left out
askers    pods that end; what they heard is their termination message, so the API is all that is needed
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from ctl.connectivity import objects, plan
from ctl.connectivity.plan import Asker, Targets
from ctl.connectivity.report import FAILED, PASSED, SKIPPED, Case
from ctl.installation import Meta, PodSeen, why
from datastore.errors import Forbidden, StoreError
from datastore.kubernetes.requests import Requests

PREFIX = "tortie-test"
_SETUP = "setup"
_LOOK_S = 0.5
_HOPELESS_S = 10.0
"""After which a pod that can't start for a reason that won't pass is given up."""
_HOPELESS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerError")
_ACCOUNT_S = 30.0
"""How long the namespace's service account may take, without which no pod is accepted."""
_GONE_S = 90.0
_SPARE_S = 30.0
"""What a pod takes to start and to be told as ended, besides its probes."""

Tell = Callable[[str], None]


class _Service(msgspec.Struct, frozen=True):
    class Spec(msgspec.Struct, frozen=True, rename="camel"):
        """core/v1 ServiceSpec."""

        cluster_ip: str = msgspec.field(default="", name="clusterIP")
        cluster_ips: Sequence[str] = msgspec.field(default=(), name="clusterIPs")

    spec: Spec = Spec()


class _Namespace(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run."""

    image: str
    nodes: tuple[str, ...]
    prefix: str = PREFIX
    limit_s: float = 60.0
    """For the servers to start."""
    patience_s: float = 10.0
    """For one probe."""


class Run:
    """One run; `cases` grows while it goes on."""

    def __init__(self, requests: Requests, settings: Settings, tell: Tell) -> None:
        self.cases: list[Case] = []
        self._requests = requests
        self._settings = settings
        self._tell = tell
        self._namespace = f"{settings.prefix}-{secrets.token_hex(3)}"

    async def whole(self) -> None:
        """Set up, the three acts, and everything away again.

        Raises:
            StoreError: the API server refuses, or has gone.
        """
        async with self._ground():
            targets = await self._targets()
            for act in plan.ACTS if targets.servers else ():
                await self._act(act, targets)

    @asynccontextmanager
    async def _ground(self) -> AsyncGenerator[None, None]:
        try:
            await self._requests.create("/api/v1/namespaces", objects.namespace(self._namespace))
            self._tell(f"namespace {self._namespace} made")
            yield
        finally:
            await asyncio.shield(self._remove())

    async def _remove(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}"
        try:
            async with asyncio.timeout(_GONE_S):
                if not await self._requests.delete(path):
                    return
                await self._gone(path)
            self._tell(f"namespace {self._namespace} removed")
        except TimeoutError:
            self._tell(f"namespace {self._namespace} is being deleted, and isn't gone after {_GONE_S:g} s")
        except StoreError as error:
            self._tell(f"namespace {self._namespace} is left: {error}; kubectl delete namespace {self._namespace}")

    async def _gone(self, path: str) -> None:
        while True:
            if await self._requests.read(path, _Namespace) is None:
                return
            await asyncio.sleep(_LOOK_S)

    # Servers

    async def _targets(self) -> Targets:
        await self._create("services", objects.service())
        names = {f"server-{number}": node for number, node in enumerate(self._settings.nodes)}
        for name, node in names.items():
            await self._create("pods", objects.server(name, node, self._settings.image))
        self._tell(f"{len(names)} servers are starting, from {self._settings.image}")
        found = await self._until(names, lambda pod: pod.ready or pod.ended, self._settings.limit_s)
        servers = {}
        for name, node in names.items():
            pod = found.get(name, PodSeen())
            addresses = tuple(one.ip for one in pod.status.pod_ips)
            runs = pod.ready and bool(addresses)
            self._case(_SETUP, f"the server on {node} starts", PASSED if runs else FAILED, "" if runs else why(pod))
            if runs:
                servers[node] = addresses
        return Targets(servers, await self._cluster_ips(), await self._name())

    async def _cluster_ips(self) -> tuple[str, ...]:
        found = await self._requests.read(self._path("services", objects.SERVICE), _Service)
        addresses = tuple(one for one in (found.spec.cluster_ips if found else ()) if one and one != "None")
        if not addresses:
            self._case(_SETUP, "the Service has a ClusterIP", FAILED, "the API server gave it none")
        return addresses

    async def _name(self) -> str:
        if await self._requests.read("/api/v1/namespaces/kube-system/services/kube-dns", _Service) is not None:
            return objects.SERVICE
        self._case(plan.NO_POLICY, "pods find the Service's name", SKIPPED, "there is no Service kube-system/kube-dns")
        return ""

    # Acts

    async def _act(self, act: str, targets: Targets) -> None:
        for policy in {plan.DENY: [objects.default_deny()], plan.ALLOW: [objects.allow_clients()]}.get(act, []):
            await self._create("networkpolicies", policy, "/apis/networking.k8s.io/v1")
        askers = {f"{one.role}-{plan.ACTS.index(act)}-{i}": one for i, one in enumerate(plan.askers(act, targets))}
        self._tell(f"{act}: {sum(len(one.probes) for one in askers.values())} probes from {len(askers)} pods")
        refused = {name: await self._start(name, one) for name, one in askers.items()}
        started = [name for name, reason in refused.items() if not reason]
        found = await self._until(started, lambda pod: pod.ended, self._settings.patience_s + _SPARE_S)
        for name, one in askers.items():
            if refused[name]:
                for probe in one.probes:
                    self._case(act, probe.name, SKIPPED, refused[name])
            else:
                self._judge(act, one, found.get(name, PodSeen()))

    async def _start(self, name: str, one: Asker) -> str:
        """Make a pod that asks; gives why it isn't allowed. Pods in the node's network often aren't."""
        try:
            await self._create("pods", objects.asker(name, one, self._settings.image, self._settings.patience_s))
        except Forbidden as error:
            if one.role != plan.HOST:
                raise
            return str(error)
        return ""

    def _judge(self, act: str, one: Asker, pod: PodSeen) -> None:
        answers = _answers(pod)
        for number, probe in enumerate(one.probes):
            if number >= len(answers):
                reason = f"the {one.role} on {one.node} gave no answer: {pod.last_words or why(pod)}"
                self._case(act, probe.name, FAILED, " ".join(reason.split())[-500:])
                continue
            heard, ms = answers[number]
            passed = heard == probe.expected
            reason = "" if passed else f"{probe.address} was {heard}, expected {probe.expected}"
            self._case(act, probe.name, PASSED if passed else FAILED, reason, ms / 1000)

    # The API

    async def _until(
        self, names: Sequence[str] | Mapping[str, str], good: Callable[[PodSeen], bool], limit_s: float
    ) -> dict[str, PodSeen]:
        """The pods as they are once all are good, none that isn't can become it, or the time is over."""
        clock = asyncio.get_running_loop().time
        start, found = clock(), dict[str, PodSeen]()
        while clock() < start + limit_s:
            pods = await self._requests.items(self._path("pods"), PodSeen)
            found = {pod.metadata.name: pod for pod in pods if pod.metadata.name in names}
            waiting = [name for name in names if name not in found or not good(found[name])]
            if clock() > start + _HOPELESS_S:
                waiting = [name for name in waiting if name not in found or not _is_hopeless(found[name])]
            if not waiting:
                break
            await asyncio.sleep(_LOOK_S)
        return found

    async def _create(self, plural: str, body: objects.Object, root: str = "/api/v1") -> None:
        """Make an object, once the namespace's service account is there if a pod waits for it."""
        clock = asyncio.get_running_loop().time
        limit = clock() + _ACCOUNT_S
        while True:
            try:
                await self._requests.create(f"{root}/namespaces/{self._namespace}/{plural}", body)
                return
            except Forbidden as error:
                if "serviceaccount" not in str(error) or clock() > limit:
                    raise
            await asyncio.sleep(_LOOK_S)

    def _path(self, plural: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self._namespace}/{plural}" + (f"/{name}" if name else "")

    def _case(self, act: str, name: str, outcome: str, reason: str = "", seconds: float = 0.0) -> None:
        self.cases.append(Case(act, name, outcome, reason, seconds))


def _is_hopeless(pod: PodSeen) -> bool:
    waiting = [one.state.waiting for one in pod.status.container_statuses if one.state.waiting is not None]
    return pod.ended or any(one.reason in _HOPELESS for one in waiting)


def _answers(pod: PodSeen) -> list[tuple[str, int]]:
    try:
        return msgspec.json.decode(pod.last_words, type=list[tuple[str, int]])
    except msgspec.DecodeError:
        return []
