"""What annotations of a pod and of its namespace say of its addresses, put into a call.

    ipAddrs              pod                 '["10.65.0.7", "fd65::7"]': these very addresses, one of a family
    ipv4pools, ipv6pools pod, namespace      '["blue", "10.66.0.0/16"]': pools, by name or CIDR
    hwAddr               pod                 '02:00:00:00:00:07': the interface's MAC

Each stands under `cni.tortie.dev/` or, read the same, `cni.projectcalico.org/`; ours counts where both are there. What
the call itself asks for (runtimeConfig, args.cni, CNI_ARGS) goes before ipAddrs and hwAddr; a pod's pools go before its
namespace's, and these before the configuration's.

Source: docs.tigera.io/calico/latest/reference/configure-cni-plugins, "Requesting a specific IP address" and "IP pools".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Protocol

import msgspec

from cni.addressing import mac
from cni.config import Call
from cni.errors import InvalidConfig
from cni.netconf import OURS
from datastore.errors import NotFound
from datastore.resources.kubernetes import Namespace
from datastore.store import Reader
from ipam.block import Address, Among

PREFIXES = ("cni.tortie.dev/", "cni.projectcalico.org/")
"""In the order in which they count."""
_POOLS = {4: "ipv4pools", 6: "ipv6pools"}
_LIST = msgspec.json.Decoder(list[str])


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """What is known of a pod's namespace; nothing where there is no such object."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


class Namespaces(Protocol):
    """Where namespaces are looked up."""

    async def facts(self, name: str) -> NamespaceFacts:
        """A namespace as it is known.

        Raises:
            StoreError: it can't be looked up.
        """
        ...


class StoredNamespaces:
    """Those of a datastore, each looked up when it is asked for."""

    def __init__(self, store: Reader) -> None:
        self._store = store

    async def facts(self, name: str) -> NamespaceFacts:
        """See `Namespaces.facts`."""
        try:
            return facts_of(await self._store.get(Namespace, name))
        except NotFound:
            return NamespaceFacts()


def facts_of(namespace: Namespace) -> NamespaceFacts:
    """What an object says."""
    return NamespaceFacts(namespace.metadata.labels, namespace.metadata.annotations)


class NoNamespaces:
    """Where there are none."""

    async def facts(self, name: str) -> NamespaceFacts:
        """See `Namespaces.facts`."""
        return NamespaceFacts()


def annotated(call: Call, namespace: NamespaceFacts) -> Call:
    """The call with what the pod's annotations (`args.cni["tortie.dev/annotations"]`) and its namespace's say.

    Raises:
        InvalidConfig: an annotation's value can't be meant; names the annotation.
    """
    pod = call.config.args.cni.annotations
    key, text = _said(pod, "hwAddr")
    if text and not call.mac:
        call = replace(call, mac=mac(f"annotation {key}", text))
    if call.config.ipam.type not in OURS and not call.alone:
        return call  # another plugin gives the addresses
    wanted = replace(call.addressing.wanted, namespace_labels=namespace.labels)
    pools = {**wanted.pools, **_pools(namespace.annotations), **_pools(pod)}
    among, families = dict(wanted.among), set(wanted.families)
    for key, address in _addresses(pod):
        limit = among.get(address.version)
        if limit is not None and limit.single:
            continue  # the call itself asks for another
        if limit is not None and not limit.has(address):
            raise InvalidConfig(f"annotation {key} asks for {address}, which ipam's ranges don't give")
        among[address.version] = Among.only(address)
        families.add(address.version)
    wanted = replace(wanted, families=tuple(sorted(families)), pools=pools, among=among)
    return replace(call, addressing=replace(call.addressing, wanted=wanted))


def _pools(annotations: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
    found = {}
    for family, name in _POOLS.items():
        key, text = _said(annotations, name)
        if text:
            found[family] = tuple(_list(key, text, "pools"))
    return found


def _addresses(annotations: Mapping[str, str]) -> list[tuple[str, Address]]:
    key, text = _said(annotations, "ipAddrs")
    found: dict[int, tuple[str, Address]] = {}
    for one in _list(key, text, "addresses") if text else ():
        try:
            address = ip_address(one.strip())
        except ValueError:
            raise InvalidConfig(f"annotation {key} holds what is no address", one[:80]) from None
        if address.version in found:
            raise InvalidConfig(f"annotation {key} has two addresses of one family", text[:80])
        found[address.version] = key, address
    return list(found.values())


def _said(annotations: Mapping[str, str], name: str) -> tuple[str, str]:
    """An annotation's key and value; empty where there is none."""
    for prefix in PREFIXES:
        if prefix + name in annotations:
            return prefix + name, annotations[prefix + name]
    return "", ""


def _list(key: str, text: str, what: str) -> list[str]:
    try:
        found = _LIST.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        raise InvalidConfig(f"annotation {key} is no JSON list of {what}", text[:80]) from None
    if not found or not all(one.strip() for one in found):
        raise InvalidConfig(f"annotation {key} names no {what}", text[:80])
    return found
