"""Names, labels and CIDRs as Kubernetes allows them; each check raises `Invalid` with the field's path.

Sources: k8s.io/apimachinery/pkg/util/validation (IsDNS1123Label, IsDNS1123Subdomain, IsQualifiedName,
IsValidLabelValue); RFC 1123 section 2.1. A name that passes has no `/`, `;`, `$` or white space, so it may stand in a
path, a comment or a set's member (invariant 8).
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from datastore.errors import Invalid

_LABEL_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL_NAME.pattern}(\.{_LABEL_NAME.pattern})*")
_INTERFACE = re.compile(r"[A-Za-z0-9_.@-]{1,15}")
_POD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

LABEL_MAX = 63
"""Characters of a DNS label, and of a label's value or the name part of its key."""
SUBDOMAIN_MAX = 253
"""Characters of a DNS name."""


def invalid(path: str, value: object, reason: str) -> Invalid:
    """The error for `value` at `path`; long values are cut so that a message stays one line."""
    shown = repr(value)
    return Invalid(path, f"{shown if len(shown) <= 80 else shown[:77] + '...'} {reason}")


def check_label_name(value: str, path: str) -> None:
    """A DNS label: namespaces, port names.

    Raises:
        Invalid: with `path`.
    """
    if len(value) > LABEL_MAX or not _LABEL_NAME.fullmatch(value):
        raise invalid(path, value, f"is no DNS label (a-z, 0-9 and -, at most {LABEL_MAX})")


def check_subdomain(value: str, path: str) -> None:
    """A DNS name: most objects' names.

    Raises:
        Invalid: with `path`.
    """
    if len(value) > SUBDOMAIN_MAX or not _SUBDOMAIN.fullmatch(value):
        raise invalid(path, value, f"is no DNS name (a-z, 0-9, - and ., at most {SUBDOMAIN_MAX})")


def check_pod_name(value: str, path: str) -> None:
    """What a runtime calls a pod: a DNS name in Kubernetes, elsewhere anything that CNI allows for a container.

    Raises:
        Invalid: with `path`.
    """
    if len(value) > SUBDOMAIN_MAX or not _POD.fullmatch(value):
        raise invalid(path, value, f"is no name (letters, digits, -, _ and ., at most {SUBDOMAIN_MAX})")


def check_interface(value: str, path: str) -> None:
    """A link's name: 15 bytes (IFNAMSIZ, linux/if.h) of those that mean nothing in a rule, a path or a format string.

    Raises:
        Invalid: with `path`.
    """
    if not _INTERFACE.fullmatch(value) or value in (".", ".."):
        raise invalid(path, value, "is no interface's name (1 to 15 of letters, digits, -, _, . and @)")


def check_label_key(key: str, path: str) -> None:
    """A label's key: an optional DNS name and a slash, then at most 63 of A-Z, a-z, 0-9, `-`, `_`, `.`.

    Raises:
        Invalid: with `path`.
    """
    prefix, slash, name = key.rpartition("/")
    if slash:
        check_subdomain(prefix, path)
    if len(name) > LABEL_MAX or not _QUALIFIED.fullmatch(name):
        raise invalid(path, key, "is no label key")


def check_label_value(value: str, path: str) -> None:
    """A label's value: empty, or at most 63 of A-Z, a-z, 0-9, `-`, `_`, `.`.

    Raises:
        Invalid: with `path`.
    """
    if value and (len(value) > LABEL_MAX or not _QUALIFIED.fullmatch(value)):
        raise invalid(path, value, f"is no label value (letters, digits, -, _ and ., at most {LABEL_MAX})")


def check_labels(labels: Mapping[str, str], path: str) -> None:
    """Every key and value of a set of labels.

    Raises:
        Invalid: names the key.
    """
    for key, value in labels.items():
        check_label_key(key, path)
        check_label_value(value, f"{path}[{key}]")


def parse_cidr(text: str, path: str) -> IPv4Network | IPv6Network:
    """The network that `text` names.

    Raises:
        Invalid: no CIDR, or one with host bits set (10.0.0.5/24), which is more often a slip than a wish.
    """
    address, _, length = text.partition("/")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise invalid(path, text, "is no CIDR") from None
    if length != str(network.prefixlen):
        raise invalid(path, text, f"is no CIDR; meant is perhaps {network}")
    if parse_address(address, path) != network.network_address:
        raise invalid(path, text, f"has host bits set; the network is {network}")
    return network


def parse_address(text: str, path: str) -> IPv4Address | IPv6Address:
    """The address that `text` names.

    Raises:
        Invalid: it names none, or one with a zone (fe80::1%eth0), which means something on one machine only; besides,
            `ipaddress` lets any character stand in a zone.
    """
    try:
        address = ip_address(text)
    except ValueError:
        raise invalid(path, text, "is no IP address") from None
    if "%" in text:
        raise invalid(path, text, "has a zone, which means nothing to other machines")
    return address
