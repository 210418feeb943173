"""Which field of a document msgspec refused, as a person writes it.

msgspec ends its message with a path such as `$.spec.allocations[...].id`: list items have their index, but the entries
of a mapping are all `[...]`. The key is found by trying the entries one by one; only errors pay for that.
"""

import re
from collections.abc import Mapping

import msgspec

from datastore.errors import Invalid
from datastore.shape import Entries, Fields, Items, Shape

_AT = re.compile(r"(?P<reason>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>.+)`")


def blame(error: msgspec.ValidationError, document: object, shape: Shape) -> Invalid:
    """The error for a person, of a `document` that was to be converted to what has `shape`."""
    match = _AT.fullmatch(str(error))
    reason, path = (match["reason"], match["path"] or "") if match else (str(error), "")
    at, found = _follow(path, document, shape)
    missing = _MISSING.fullmatch(reason)
    if missing:
        return Invalid(_joined(at, missing["name"]), "is missing")
    if match and match["key"]:
        odd = next((key for key in found if not isinstance(key, str)), "") if isinstance(found, Mapping) else ""
        return Invalid(at, f"key {odd!r} is no text")
    return Invalid(at, reason.replace("`", "").replace("Expected", "expected", 1))


def _follow(path: str, document: object, shape: Shape) -> tuple[str, object]:
    at = ""
    for step in _STEP.finditer(path):
        if step["name"]:
            at = _joined(at, step["name"])
            document = document.get(step["name"]) if isinstance(document, Mapping) else None
            shape = shape.fields.get(step["name"]) if isinstance(shape, Fields) else None
        elif step["index"] == "...":
            key, document = _refused_entry(document, shape)
            at += f"[{key}]"
            shape = shape.value if isinstance(shape, Entries) else None
        else:
            index = int(step["index"])
            at += f"[{index}]"
            document = document[index] if isinstance(document, list) and index < len(document) else None
            shape = shape.item if isinstance(shape, Items) else None
    return at, document


def _refused_entry(document: object, shape: Shape) -> tuple[object, object]:
    entries = document.items() if isinstance(document, Mapping) else ()
    for key, value in entries:
        if not _fits(value, shape.value if isinstance(shape, Entries) else None):
            return key, value
    return "...", None


def _fits(value: object, shape: Shape) -> bool:
    if not isinstance(shape, Fields):
        return isinstance(value, str)  # the mappings without Structs are labels, annotations: text
    try:
        msgspec.convert(value, shape.struct, dec_hook=lambda _, unknown: unknown)
    except msgspec.ValidationError:
        return False
    return True


def _joined(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name
