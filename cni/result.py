"""ADD's answer as one value, and its forms in every version of the SPEC.

    0.1.0 0.2.0          ip4, ip6: one address of each family, its gateway, its routes
    0.3.0 0.3.1 0.4.0    interfaces, ips with `version`, routes, dns
    1.0.0                ips without `version`; dns only where there is some
    1.1.0                interfaces with mtu, socketPath, pciID; routes with mtu, advmss, priority, table, scope

A `prevResult` may come in any of them, whatever the configuration's version. What another plugin made stays in the
answer as it was, as far as the answer's version can say it.

Sources: CNI SPEC 0.2.0, 0.4.0, 1.0.0, 1.1.0, "Result"; containernetworking/cni pkg/types/{020,040,100}.
"""

import json
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec

from cni.errors import InvalidConfig

OLDEST_FORM = ("0.1.0", "0.2.0")
WITH_IP_VERSION = ("0.3.0", "0.3.1", "0.4.0")
SUPPORTED_VERSIONS = (*OLDEST_FORM, *WITH_IP_VERSION, "1.0.0", "1.1.0")
NEWEST_VERSION = SUPPORTED_VERSIONS[-1]

Document = dict[str, Any]


class Interface(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of `interfaces`; a `sandbox` says that it is inside the container's namespace."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = msgspec.field(default="", name="socketPath")
    pci_id: str = msgspec.field(default="", name="pciID")


class IP(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of `ips`: an address with its prefix length; `interface` is an index into `interfaces`."""

    address: str
    interface: int | None = None
    gateway: str = ""


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of `routes`."""

    dst: str
    gw: str = ""
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None


class DNS(msgspec.Struct, frozen=True, omit_defaults=True):
    """`dns`: what the container's resolver should be told."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Result(msgspec.Struct, frozen=True):
    """What is there after an ADD."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IP, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()

    def after(self, previous: "Result | None") -> "Result":
        """This result behind what earlier plugins of a chain made; their DNS counts where this has none."""
        if previous is None:
            return self
        offset = len(previous.interfaces)
        ips = tuple(
            one if one.interface is None else msgspec.structs.replace(one, interface=one.interface + offset)
            for one in self.ips
        )
        dns = previous.dns if self.dns == DNS() else self.dns
        routes = (*previous.routes, *(one for one in self.routes if one not in previous.routes))
        return Result((*previous.interfaces, *self.interfaces), (*previous.ips, *ips), routes, dns)

    def to_json(self, version: str) -> bytes:
        """The result object in a version, in one line."""
        body = _oldest(self) if version in OLDEST_FORM else _newer(self, version)
        return json.dumps({"cniVersion": version, **body}).encode() + b"\n"


class _OldestIP(msgspec.Struct, frozen=True):
    ip: str
    gateway: str = ""
    routes: tuple[Route, ...] = ()


class _OldestResult(msgspec.Struct, frozen=True):
    ip4: _OldestIP | None = None
    ip6: _OldestIP | None = None
    dns: DNS = DNS()


def parse(document: object, version: str) -> Result:
    """A result that another plugin made, or this one earlier: `prevResult`, or a delegate's answer.

    `version` counts where the result names none (libcni leaves it out below 1.0).

    Raises:
        InvalidConfig: it isn't one; says which field.
    """
    if not isinstance(document, Mapping):
        raise InvalidConfig("prevResult is no object", type(document).__name__)
    found = document.get("cniVersion") or version
    if found not in SUPPORTED_VERSIONS:
        raise InvalidConfig("prevResult is of a version that is not known", str(found)[:80])
    try:
        result = _parse_oldest(document) if found in OLDEST_FORM else msgspec.convert(without_nulls(document), Result)
        _check(result)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidConfig("prevResult can't be read", str(error)) from None
    return result


def _parse_oldest(document: Mapping[str, Any]) -> Result:
    found = msgspec.convert(without_nulls(document), _OldestResult)
    halves = [half for half in (found.ip4, found.ip6) if half is not None]
    ips = tuple(IP(half.ip, gateway=half.gateway) for half in halves)
    return Result(ips=ips, routes=tuple(route for half in halves for route in half.routes), dns=found.dns)


def _check(result: Result) -> None:
    for place, ip in enumerate(result.ips):
        ip_interface(ip.address)
        _check_gateway(ip.gateway)
        if ip.interface is not None and ip.interface not in range(len(result.interfaces)):
            raise ValueError(f"ips[{place}].interface {ip.interface} is none of interfaces")
    for route in result.routes:
        ip_network(route.dst, strict=False)
        _check_gateway(route.gw)


def _check_gateway(text: str) -> None:
    if text:
        ip_address(text)


def _oldest(result: Result) -> Document:
    body: Document = {}
    for key, family in (("ip4", 4), ("ip6", 6)):
        found = next((ip for ip in result.ips if _family(ip.address) == family), None)
        if found is not None:
            gateway = {"gateway": found.gateway} if found.gateway else {}
            routes = [_plain(route) for route in result.routes if _family(route.dst) == family]
            body[key] = {"ip": found.address, **gateway, **({"routes": routes} if routes else {})}
    return {**body, "dns": msgspec.to_builtins(result.dns)}


def _newer(result: Result, version: str) -> Document:
    body: Document = msgspec.to_builtins(
        {key: found for key in ("interfaces", "ips", "routes") if (found := getattr(result, key))}
    )
    if version != NEWEST_VERSION:
        for interface in body.get("interfaces", ()):
            for key in ("mtu", "socketPath", "pciID"):
                interface.pop(key, None)
    if version in WITH_IP_VERSION:
        body["ips"] = [{"version": str(_family(ip["address"])), **ip} for ip in body.get("ips", ())]
    if version in WITH_IP_VERSION or result.dns != DNS():
        body["dns"] = msgspec.to_builtins(result.dns)
    return body


def _plain(route: Route) -> Document:
    return {"dst": route.dst, **({"gw": route.gw} if route.gw else {})}


def _family(text: str) -> int:
    return 6 if ":" in text else 4


def without_nulls(value: object) -> object:
    """JSON's null, where Go writes a nil slice or pointer: as if the key weren't there."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    return value
