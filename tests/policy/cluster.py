"""Clusters for tests, written as their authors would: YAML for policies, a line for a pod."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import cast

import yaml

from datastore import codec
from datastore.resources.kubernetes import Namespace, Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Resource
from policy import networkpolicy
from policy.evaluate import Snapshot
from policy.model import Address, Endpoint, EndpointId, NamedPort, Policy, Protocol

_KINDS: dict[str, type[Resource]] = {kind.KIND.name: kind for kind in (Namespace, Pod, NetworkPolicy)}


def resources(text: str) -> Iterator[Resource]:
    """Every object of a YAML file; null is as good as absent, as for the API server."""
    for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
        if document and document["kind"] in _KINDS:
            kind = _KINDS[document["kind"]].KIND
            yield codec.decode({"apiVersion": kind.api_version, **document})


def policy(spec: str, name: str = "p", namespace: str = "shop") -> Policy:
    """The NetworkPolicy of this spec."""
    written = yaml.load(spec, Loader=yaml.CSafeLoader)
    document = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": written,
    }
    return networkpolicy.convert(cast("NetworkPolicy", codec.decode(document)))


def pod(
    name: str,
    addresses: str | Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
    *,
    node: str = "n1",
    ports: Mapping[str, int | str] | None = None,
    interface: str | None = None,
) -> Endpoint:
    """A pod `namespace/name`; `ports` by name, a number or such as UDP/53. Its interface follows from its name."""
    namespace, _, short = name.partition("/")
    texts = [addresses] if isinstance(addresses, str) else list(addresses)
    return Endpoint(
        EndpointId(name),
        namespace,
        short,
        node,
        labels or {},
        tuple(map(ip_address, texts)),
        tuple(_named_port(port, number) for port, number in (ports or {}).items()),
        f"tort{name.replace('/', '-')}"[:15] if interface is None else interface,
    )


def _named_port(name: str, number: int | str) -> NamedPort:
    protocol, _, digits = str(number).rpartition("/")
    return NamedPort(name, Protocol(protocol or "TCP"), int(digits))


def snapshot(
    pods: Iterable[Endpoint],
    policies: Iterable[Policy] = (),
    namespaces: Mapping[str, Mapping[str, str]] | None = None,
    nodes: Mapping[str, Iterable[str]] | None = None,
) -> Snapshot:
    """What `evaluate` is asked about."""
    return Snapshot(
        {one.id: one for one in pods},
        {one.key: one for one in policies},
        namespaces or {},
        {name: addresses(*texts) for name, texts in (nodes or {}).items()},
    )


def addresses(*texts: str) -> tuple[Address, ...]:
    """Addresses from text."""
    return tuple(map(ip_address, texts))
