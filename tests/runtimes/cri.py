"""Kubernetes' Container Runtime Interface, as far as pods' sandboxes: what a kubelet says to containerd.

The messages are described here at run time, from the table below: generated code of the whole interface would be two
thousand times what is needed. Requests and answers are documents, in protobuf's JSON form.

Source: k8s.io/cri-api/pkg/apis/runtime/v1/api.proto (names and numbers).
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message

Document = dict[str, Any]
_PACKAGE = "runtime.v1"
_LIMIT_S = 120

# Field: (number, type); a type in brackets is a list's, one with a capital is a message.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "PodSandboxMetadata": {
        "name": (1, "string"),
        "uid": (2, "string"),
        "namespace": (3, "string"),
        "attempt": (4, "uint32"),
    },
    "PortMapping": {"container_port": (2, "int32"), "host_port": (3, "int32")},
    "LinuxPodSandboxConfig": {"cgroup_parent": (1, "string")},
    "PodSandboxConfig": {
        "metadata": (1, "PodSandboxMetadata"),
        "hostname": (2, "string"),
        "log_directory": (3, "string"),
        "port_mappings": (5, "[PortMapping]"),
        "linux": (8, "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig")},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, "string")},
    "RemovePodSandboxResponse": {},
    "PodIP": {"ip": (1, "string")},
    "PodSandboxNetworkStatus": {"ip": (1, "string"), "additional_ips": (2, "[PodIP]")},
    "PodSandboxStatus": {
        "id": (1, "string"),
        "state": (3, "int32"),  # an enum: 0 is ready, 1 is not
        "network": (5, "PodSandboxNetworkStatus"),
    },
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, "string")},
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus")},
    "ListPodSandboxRequest": {},
    "PodSandbox": {"id": (1, "string"), "state": (3, "int32")},
    "ListPodSandboxResponse": {"items": (1, "[PodSandbox]")},
    "RuntimeCondition": {
        "type": (1, "string"),
        "status": (2, "bool"),
        "reason": (3, "string"),
        "message": (4, "string"),
    },
    "RuntimeStatus": {"conditions": (1, "[RuntimeCondition]")},
    "StatusRequest": {},
    "StatusResponse": {"status": (1, "RuntimeStatus")},
}
_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "bool": FieldDescriptorProto.TYPE_BOOL,
}


class Refused(Exception):
    """The runtime failed to do what it was told; says why."""


class Cri:
    """A client of a runtime's socket."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def run(self, config: Document) -> str:
        """Start a pod's sandbox; gives its id.

        Raises:
            Refused: it could not be started.
        """
        sandbox: str = self._call("RunPodSandbox", {"config": config})["podSandboxId"]
        return sandbox

    def stop(self, sandbox: str) -> None:
        """Stop a sandbox; may be repeated.

        Raises:
            Refused: it could not be stopped; a kubelet would try again for ever.
        """
        self._call("StopPodSandbox", {"podSandboxId": sandbox})

    def remove(self, sandbox: str) -> None:
        """Remove a sandbox, stopped or not; may be repeated.

        Raises:
            Refused: it could not be removed.
        """
        self._call("RemovePodSandbox", {"podSandboxId": sandbox})

    def addresses(self, sandbox: str) -> list[str]:
        """The addresses that the runtime tells of."""
        network = self._call("PodSandboxStatus", {"podSandboxId": sandbox})["status"]["network"]
        return [network["ip"], *(one["ip"] for one in network.get("additionalIps", []))]

    def sandboxes(self) -> list[str]:
        """The ids of all sandboxes that the runtime knows."""
        return [one["id"] for one in self._call("ListPodSandbox", {}).get("items", [])]

    def trouble(self) -> str:
        """What keeps a kubelet's node from being ready; empty if nothing does."""
        try:
            conditions = self._call("Status", {})["status"]["conditions"]
        except Refused as error:  # it listens before it is initialised
            return str(error)
        return "; ".join(f"{one['type']}: {one['reason']}" for one in conditions if not one.get("status"))

    def _call(self, method: str, request: Document) -> Document:
        answer = _CLASSES[f"{method}Response"]
        called: grpc.UnaryUnaryMultiCallable[Message, Message] = self._channel.unary_unary(
            f"/{_PACKAGE}.RuntimeService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=lambda data: answer.FromString(data),
        )
        message = json_format.ParseDict(request, _CLASSES[f"{method}Request"]())
        try:
            return json_format.MessageToDict(called(message, timeout=_LIMIT_S, wait_for_ready=True))
        except grpc.RpcError as error:
            raise Refused(f"{method}: {error.details()}") from error


def _described(name: str, fields: Mapping[str, tuple[int, str]]) -> DescriptorProto:
    described = DescriptorProto(name=name)
    for field, (number, kind) in fields.items():
        inner = kind.strip("[]")
        made = described.field.add(name=field, number=number)
        made.label = FieldDescriptorProto.LABEL_REPEATED if kind != inner else FieldDescriptorProto.LABEL_OPTIONAL
        made.type = _SCALARS.get(inner, FieldDescriptorProto.TYPE_MESSAGE)
        if inner not in _SCALARS:
            made.type_name = f".{_PACKAGE}.{inner}"
    return described


def _classes() -> dict[str, type[Message]]:
    file = FileDescriptorProto(name="tortie_tests_cri.proto", package=_PACKAGE, syntax="proto3")
    file.message_type.extend(_described(name, fields) for name, fields in _MESSAGES.items())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()
