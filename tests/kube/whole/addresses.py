"""Where everything of a cluster is. The networks are a namespace's own, so every cluster has the same.

fabric  10.200.0.1    bridge `fabric0`: control plane, and the world outside
node-1  10.200.0.11   eth0, a port of the bridge; node-2 10.200.0.12, ...

A dual-stack cluster has IPv6 addresses beside them: fd20::1, and nodes fd20::11, fd20::12, ...
"""

PREFIX_LENGTH = 24
FABRIC = "10.200.0.1"
API_PORT = 6443
FABRIC_IPV6 = "fd20::1"
FABRICS = (FABRIC, FABRIC_IPV6)
IPV6_PREFIX_LENGTH = 64
SERVICES = "10.96.0.0/16"
SERVICES_IPV6 = "fd96::/112"
API_SERVICE = "10.96.0.1"
"""The first of `SERVICES`: where pods find the API."""
DNS_SERVICE = "10.96.0.10"
"""Nobody serves there; pods that ask have their reasons."""
REFERENCE_PODS = "10.244.0.0/16"
"""Of the reference plugins, see `reference`."""


def node(number: int) -> str:
    """Of a node, from 1."""
    return f"10.200.0.{10 + number}"


def node_ipv6(number: int) -> str:
    """The same, of a dual-stack cluster."""
    return f"fd20::{10 + number}"


def reference_pods(number: int) -> str:
    """A node's part of `REFERENCE_PODS`."""
    return f"10.244.{number}.0/24"
