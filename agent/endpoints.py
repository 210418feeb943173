"""A pod's endpoint in its three forms: the local record, the WorkloadEndpoint in the store, and what policy sees.

Outside Kubernetes the pod's agent publishes the WorkloadEndpoint, beside the answer and never before the gate; other
nodes learn of the pod from it. It is found again by its name, which the attachment decides.
"""

import hashlib
import re

from cni.pods import PodFacts
from cni.records import Record
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import EndpointPort, WorkloadEndpoint, WorkloadEndpointSpec
from policy.model import Endpoint, EndpointId, NamedPort, Protocol

_NOT_DNS = re.compile(r"[^a-z0-9]+")
_READABLE = 200
"""Characters of a pod's name that go into its endpoint's, whose limit is 253."""


def endpoint_name(record: Record) -> str:
    """The name of the attachment's WorkloadEndpoint: the pod's, made a DNS name, and a hash of the attachment.

    A pod's name alone may be of two containers for a moment: the old one's DEL comes after the new one's ADD.
    """
    readable = _NOT_DNS.sub("-", record.pod.lower())[:_READABLE].strip("-") or "pod"
    digest = hashlib.sha256(record.attachment.handle.encode()).hexdigest()[:10]
    return f"{readable}-{digest}"


def endpoint_key(record: Record) -> str:
    """The attachment's endpoint, as the compiler and messages name it."""
    return f"{record.namespace}/{endpoint_name(record)}"


def endpoint_of_record(record: Record, node: str, pod: PodFacts | None = None) -> Endpoint:
    """The endpoint that a local record is about; its Pod says labels and ports as they are now, where there is one."""
    ports = tuple(NamedPort(port.name, Protocol(port.protocol), port.port) for port in record.ports)
    return Endpoint(
        EndpointId(endpoint_key(record)),
        record.namespace,
        record.pod,
        node,
        record.labels if pod is None else pod.labels,
        record.addresses,
        ports if pod is None else pod.ports,
        record.host_interface,
    )


def resource_of(record: Record, node: str) -> WorkloadEndpoint:
    """The WorkloadEndpoint that a local record is published as."""
    return WorkloadEndpoint(
        metadata=Metadata(name=endpoint_name(record), namespace=record.namespace, labels=dict(record.labels)),
        spec=WorkloadEndpointSpec(
            node=node,
            pod=record.pod,
            container_id=record.container_id,
            network=record.network,
            interface=record.interface,
            host_interface=record.host_interface,
            netns=record.netns,
            addresses=tuple(str(address) for address in record.addresses),
            ports=tuple(EndpointPort(name=port.name, port=port.port, protocol=port.protocol) for port in record.ports),
        ),
    )
