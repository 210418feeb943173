"""WorkloadEndpoint: one interface of one pod, where no Kubernetes Pod says it (lab and hosts).

Its agent writes it from the local record of the attachment; policy reads labels, addresses and named ports.
"""

import re
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from datastore.resources import names
from datastore.resources.networkpolicy import PROTOCOLS, check_port, check_port_name
from datastore.resources.value import Kind, Resource, Value, check_below

_CONTAINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""CNI SPEC, section 2: CNI_CONTAINERID, and network names alike."""


class EndpointPort(Value, frozen=True, kw_only=True):
    """A named port, for policies that name it."""

    name: str
    port: int
    protocol: str = "TCP"

    def check(self) -> None:
        """Judge name, number and protocol.

        Raises:
            Invalid: names the field within the port.
        """
        check_port_name(self.name, "name")
        check_port(self.port, "port")
        if self.protocol not in PROTOCOLS:
            raise names.invalid("protocol", self.protocol, f"is no protocol here ({', '.join(PROTOCOLS)})")


class WorkloadEndpointSpec(Value, frozen=True, kw_only=True):
    """Where an endpoint is. The pod's labels are the endpoint's own."""

    node: str
    pod: str
    container_id: str = msgspec.field(name="containerID")
    network: str
    interface: str
    """Name inside the pod."""
    host_interface: str
    netns: str = ""
    """Path of the pod's network namespace."""
    addresses: tuple[str, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    def check(self) -> None:
        """Judge every name, address and port.

        Raises:
            Invalid: names the field within the spec.
        """
        names.check_subdomain(self.node, "node")
        names.check_pod_name(self.pod, "pod")
        for field, text in (("containerID", self.container_id), ("network", self.network)):
            if not _CONTAINER_ID.fullmatch(text):
                raise names.invalid(field, text, "is no name as CNI allows it")
        for field, text in (("interface", self.interface), ("hostInterface", self.host_interface)):
            names.check_interface(text, field)
        if "\0" in self.netns:
            raise names.invalid("netns", self.netns, "is no path")
        for index, text in enumerate(self.addresses):
            names.parse_address(text, f"addresses[{index}]")
        for index, port in enumerate(self.ports):
            check_below(port, f"ports[{index}]")


class WorkloadEndpoint(Resource, frozen=True, kw_only=True):
    """tortie.dev/v1 WorkloadEndpoint."""

    KIND: ClassVar[Kind] = Kind("tortie.dev", "v1", "WorkloadEndpoint", "workloadendpoints", True, ("wep",))

    spec: WorkloadEndpointSpec

    def indexed(self) -> Mapping[str, frozenset[str]]:
        """`namespace` and `node`."""
        return {**super().indexed(), "node": frozenset({self.spec.node})}

    def check(self) -> None:
        """Judge metadata and spec.

        Raises:
            Invalid: names the field.
        """
        super().check()
        check_below(self.spec, "spec")
