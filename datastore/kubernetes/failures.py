"""The API server's refusals, and a connection's failures, as the store's errors.

| what came | read | write |
|---|---|---|
| no connection | Unavailable | Unavailable: nothing was sent |
| connection lost or time over after sending | Unavailable | Unknown |
| an answer cut short | Unavailable | Unknown |
| 400, 405, 413, 415, 422 | Invalid | Invalid, with the field that the server names |
| 401 (with fresh credentials), 403 | Forbidden | Forbidden |
| 404 | NotFound | NotFound; of a namespace Invalid, of a resource Unavailable (no CRD) |
| 409 | - | AlreadyExists, Conflict |
| 410 | Compacted | - |
| 429 | asked again after Retry-After | Unavailable with `retry_after_s`: such requests are turned away at the door |
| 5xx | Unavailable | Unknown |

Sources: kubernetes.io/docs/reference/using-api/api-concepts, k8s.io/apimachinery/pkg/api/errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from datastore.errors import AlreadyExists, Conflict, Forbidden, Invalid, StoreError, Unavailable, Unknown

_INVALID = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_SHOWN = 300
"""Characters of an answer that is no Status."""


class Cause(msgspec.Struct):
    """metav1.StatusCause."""

    message: str = ""
    field: str = ""


class Details(msgspec.Struct, rename="camel"):
    """metav1.StatusDetails."""

    name: str = ""
    kind: str = ""
    causes: list[Cause] = []
    retry_after_seconds: int = 0


class Status(msgspec.Struct):
    """metav1.Status: what the server says instead of an object."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: Details = msgspec.field(default_factory=Details)


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked, for messages and for what a failure means."""

    verb: str
    key: str
    """The object as messages name it, or a kind."""
    writes: bool = False
    revision: str = ""
    """Of the object to be replaced."""


def status_of(body: bytes) -> Status:
    """What the server said; some errors are plain text."""
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        return Status(message=body[:_SHOWN].decode(errors="replace").strip())


def refusal(call: Call, code: int, body: bytes, headers: Mapping[str, str]) -> StoreError:
    """The error for an answer that is no success; 404 and 410 are the caller's to judge."""
    status = status_of(body)
    said = f"{call.verb} {call.key}: {status.message or HTTPStatus(code).phrase}"
    if code in _INVALID:
        return _invalid(status)
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Forbidden(said)
    if code == HTTPStatus.CONFLICT:
        return AlreadyExists(call.key) if status.reason == "AlreadyExists" else Conflict(call.key, call.revision)
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return Unavailable(said, retry_after_s=retry_after_s(status, headers))
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR and call.writes:
        return Unknown(said)
    return Unavailable(said)


def lost(call: Call, error: BaseException) -> StoreError:
    """The error for a request that was sent, and whose answer didn't come."""
    said = f"{call.verb} {call.key}: no answer from the API server: {told(error)}"
    return Unknown(said) if call.writes else Unavailable(said)


def told(error: BaseException) -> str:
    """What a client library's exception says, or at least what it is."""
    return str(error) or type(error).__name__


def retry_after_s(status: Status, headers: Mapping[str, str]) -> float:
    """How long the server wants to be left alone; a second if it doesn't say."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else float(status.details.retry_after_seconds or 1)


def _invalid(status: Status) -> Invalid:
    for cause in status.details.causes:
        if cause.field:
            return Invalid(cause.field, cause.message)
    return Invalid("", status.message)
