"""ADD's answer in the versions we speak.

Interfaces name both ends, because chained plugins look for them: `bandwidth` wants the host end with an empty sandbox,
`portmap` an address whose interface lies in the sandbox, podman a MAC on the inner one; `sbr` makes default routes of
each address's gateway, and of `routes` only those whose gateway lies in an address's subnet. `mtu` came with 1.1.0.
Source: CNI SPEC 1.1.0 section 5, "ADD Success".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, cast

from kernel.links import GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_MAC


@dataclass(frozen=True, slots=True)
class Result:
    """What an ADD made."""

    host_interface: str
    interface: str
    mac: bytes
    netns: str
    mtu: int
    addresses: tuple[IPv4Address | IPv6Address, ...]

    def to_json(self, version: str, previous: Mapping[str, object] | None = None) -> bytes:
        """The result object; what earlier plugins of a chain made (`previous`) stays in it, before ours."""
        merged: dict[str, Any] = dict(previous or {})
        offset = len(cast("list[object]", merged.get("interfaces") or []))
        for key, rows in self._parts(version, offset).items():
            merged[key] = [*(cast("list[object]", merged.get(key) or [])), *rows]
        return json.dumps({**merged, "cniVersion": version}).encode() + b"\n"

    def _parts(self, version: str, offset: int) -> dict[str, list[dict[str, object]]]:
        outside: dict[str, object] = {"name": self.host_interface, "mac": GATEWAY_MAC.hex(":")}
        inside: dict[str, object] = {"name": self.interface, "mac": self.mac.hex(":"), "sandbox": self.netns}
        if version != "1.0.0":
            outside["mtu"] = inside["mtu"] = self.mtu
        versions = {address.version for address in self.addresses}
        routes = [("0.0.0.0/0", GATEWAY_IPV4)] if 4 in versions else []
        gateways: list[tuple[str, IPv4Address | IPv6Address]] = [*routes]
        if 6 in versions:
            gateways.append(("::/0", GATEWAY_IPV6))
        return {
            "interfaces": [outside, inside],
            "ips": [
                {
                    "address": f"{address}/{address.max_prefixlen}",
                    "interface": offset + 1,
                    "gateway": str(GATEWAY_IPV4 if address.version == 4 else GATEWAY_IPV6),
                }
                for address in self.addresses
            ],
            "routes": [{"dst": destination, "gw": str(gateway)} for destination, gateway in gateways],
        }
