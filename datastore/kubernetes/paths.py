"""Where each kind is in the API, and how a `Where` is asked for.

| where | kinds of ours | Kubernetes' own |
|---|---|---|
| namespace | path | path |
| node | label `node.index.tortie.dev/NODE` | Pod: field selector `spec.nodeName` |
| cell, pool | label `cell.index.tortie.dev/...` | - |
| any other field | nothing is found | nothing is found |

An index label's key holds the value and its value is empty, so that one object can hold several values of a field (a
block's owner and its borrowers). The API server writes labels with the object, in one compare-and-swap; a watch with a
selector is told DELETED when an object leaves it. Only this driver sees these labels.
"""

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote

from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.kubernetes import Pod
from datastore.resources.value import Resource
from datastore.store import Where

OURS = "tortie.dev"
INDEX = f"index.{OURS}"
"""Ends the prefix of every index label."""
_READABLE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_HASHED = "H_"
"""Begins what stands for a value that can't be a label's name; no node's name has capitals."""
_DIGITS = 40
_FIELD = re.compile(r"[a-z]{1,63}")
_NOTHING = {"labelSelector": f"{INDEX}/nothing,!{INDEX}/nothing"}


def is_ours(kind: type[Resource]) -> bool:
    """Whether a kind is a custom resource of ours."""
    return kind.KIND.group == OURS


def collection(kind: type[Resource], namespace: str = "") -> str:
    """The path of all objects of a kind, in one namespace if one is named."""
    names_ = kind.KIND
    root = f"/apis/{names_.api_version}" if names_.group else f"/api/{names_.version}"
    return f"{root}/namespaces/{_segment(namespace)}/{names_.plural}" if namespace else f"{root}/{names_.plural}"


def item(kind: type[Resource], name: str, namespace: str) -> str:
    """The path of one object.

    Raises:
        Invalid: no object can be called so.
    """
    names.check_subdomain(name, "metadata.name")
    if kind.KIND.namespaced:
        names.check_label_name(namespace, "metadata.namespace")
    elif namespace:
        raise names.invalid("metadata.namespace", namespace, f"{kind.KIND.name} has no namespace")
    return f"{collection(kind, namespace)}/{_segment(name)}"


def selection(kind: type[Resource], where: Where | None) -> tuple[str, Mapping[str, str]]:
    """The path and the query that give what is in `where`."""
    everything = collection(kind)
    if where is None:
        return everything, {}
    if where.field == "namespace" and kind.KIND.namespaced and _is_label_name(where.value):
        return collection(kind, where.value), {}
    if kind is Pod and where.field == "node" and _is_node(where.value):
        return everything, {"fieldSelector": f"spec.nodeName={where.value}"}
    if is_ours(kind) and where.field != "namespace" and _FIELD.fullmatch(where.field):
        return everything, {"labelSelector": index_label(where.field, where.value)}
    return everything, _NOTHING


def index_label(field: str, value: str) -> str:
    """The label that an object has which holds `value` in an indexed field."""
    readable = len(value) <= names.LABEL_MAX and _READABLE.fullmatch(value) and not value.startswith(_HASHED)
    shown = value if readable else _HASHED + hashlib.sha256(value.encode()).hexdigest()[:_DIGITS]
    return f"{field}.{INDEX}/{shown}"


def is_index_label(key: str) -> bool:
    """Whether a label is one of the driver's own."""
    return key.partition("/")[0].endswith(INDEX)


def index_labels(resource: Resource) -> dict[str, str]:
    """Every index label of an object of ours."""
    fields = resource.indexed().items()
    return {index_label(field, value): "" for field, values in fields if field != "namespace" for value in values}


def _is_label_name(text: str) -> bool:
    try:
        names.check_label_name(text, "")
    except Invalid:
        return False
    return True


def _is_node(text: str) -> bool:
    try:
        names.check_subdomain(text or "unscheduled", "")
    except Invalid:
        return False
    return True


def _segment(text: str) -> str:
    return quote(text, safe="")
