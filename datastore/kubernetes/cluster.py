"""What only Kubernetes has, beside the Store contract: parts of its own objects that this product writes.

    Pod             an annotation, by a merge patch of pods/status: whoever may do no more can change no spec
    Node            its uid and InternalIPs; a condition, by a strategic merge patch of nodes/status
    Event           created (core/v1); what is there already is told

None of these is a compare-and-swap, for none decides anything: a patch names the uid that it is meant for, and the last
one wins. Verbs that an account needs for them: get nodes; patch pods/status, nodes/status; create events.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec

from datastore.errors import NotFound
from datastore.kubernetes.client import Answer, Client, Request
from datastore.kubernetes.failures import Call, refusal
from datastore.kubernetes.paths import item
from datastore.resources.kubernetes import KubernetesNode, NodeAddress, Pod
from datastore.resources.value import Resource, key_of

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
"""Knows that conditions are told apart by their type (k8s.io/api/core/v1, patchMergeKey)."""
NETWORK_UNAVAILABLE = "NetworkUnavailable"
HOME = "default"
"""The namespace of Events about what has none."""


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Address(msgspec.Struct):
    type: str = ""
    address: str = ""


class _Status(msgspec.Struct):
    addresses: list[_Address] = []
    conditions: list[_Condition] = []


class _Node(msgspec.Struct):
    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A Kubernetes Node, as far as its agent needs it."""

    uid: str
    addresses: tuple[NodeAddress, ...]
    network_unavailable: str
    """The condition's status: True, False, Unknown, or empty where nobody has said."""


@dataclass(frozen=True, slots=True)
class Note:
    """An Event as it is written."""

    kind: type[Resource]
    namespace: str
    name: str
    uid: str
    reason: str
    message: str
    type: str
    count: int
    first: datetime
    last: datetime
    own_name: str
    """Of the Event itself: of two with one name the first stays."""


class Cluster:
    """One cluster's API, for what is no compare-and-swap; made by the store, whose connections it uses."""

    def __init__(self, client: Client, component: str = "tortie", host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host

    async def node(self, name: str) -> NodeFacts:
        """A Kubernetes Node.

        Raises:
            NotFound: its kubelet hasn't registered it.
            StoreError: the API can't be asked.
        """
        call = Call("get", key_of(KubernetesNode, name, ""))
        answer = await self._client.ask(Request(call, "GET", item(KubernetesNode, name, "")))
        found = msgspec.json.decode(_good(call, answer).body, type=_Node)
        said = next((one.status for one in found.status.conditions if one.type == NETWORK_UNAVAILABLE), "")
        addresses = tuple(NodeAddress(type=one.type, address=one.address) for one in found.status.addresses)
        return NodeFacts(found.metadata.uid, addresses, said)

    async def say_network_is_available(self, node: str, message: str, now: datetime) -> None:
        """Set the condition that a cloud's controller or another network may have set to True (core/v1 NodeCondition).

        Raises:
            StoreError: it isn't set, or perhaps.
        """
        condition = {
            "type": NETWORK_UNAVAILABLE,
            "status": "False",
            "reason": "TortieServes",
            "message": message,
            "lastHeartbeatTime": _text(now),
            "lastTransitionTime": _text(now),
        }
        await self._patch(KubernetesNode, node, "", {"status": {"conditions": [condition]}}, STRATEGIC)

    async def annotate_pod(self, namespace: str, name: str, uid: str, annotations: Mapping[str, str]) -> None:
        """Set annotations of a pod, if it is the one of this uid.

        Raises:
            NotFound, Conflict: that pod isn't there any more.
            StoreError: they aren't set, or perhaps.
        """
        metadata: dict[str, object] = {"annotations": dict(annotations), **({"uid": uid} if uid else {})}
        await self._patch(Pod, name, namespace, {"metadata": metadata}, MERGE)

    async def note(self, note: Note) -> None:
        """Write an Event.

        Raises:
            AlreadyExists: one of its name is there.
            StoreError: it isn't written, or perhaps.
        """
        namespace, kind = note.namespace or HOME, note.kind.KIND
        about = {"apiVersion": kind.api_version, "kind": kind.name, "name": note.name, "uid": note.uid}
        document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": note.own_name, "namespace": namespace},
            "involvedObject": {**about, "namespace": note.namespace} if note.namespace else about,
            "reason": note.reason,
            "message": note.message,
            "type": note.type,
            "count": note.count,
            "firstTimestamp": _text(note.first),
            "lastTimestamp": _text(note.last),
            "source": {"component": self._component, "host": self._host},
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        call = Call("create", f"Event {namespace}/{note.own_name}", writes=True)
        body = msgspec.json.encode(document)
        _good(call, await self._client.ask(Request(call, "POST", f"/api/v1/namespaces/{namespace}/events", body=body)))

    async def _patch(self, kind: type[Resource], name: str, namespace: str, patch: object, content: str) -> None:
        call = Call("patch", key_of(kind, name, namespace), writes=True)
        path, body = item(kind, name, namespace) + "/status", msgspec.json.encode(patch)
        _good(call, await self._client.ask(Request(call, "PATCH", path, body=body, content=content)))


def _good(call: Call, answer: Answer) -> Answer:
    if answer.code == HTTPStatus.NOT_FOUND:
        raise NotFound(call.key, "")
    if not answer.is_ok:
        raise refusal(call, answer.code, answer.body, answer.headers)
    return answer


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
