"""What etcd and gRPC say no with, as the store's errors.

    a read     anything                                        -> Unavailable, but for what these credentials may not
    a write    refused before it was proposed to the cluster   -> Unavailable, Forbidden or Invalid
               no space                                        -> to be looked at: see `NoSpace`
               anything else                                   -> Unknown

Only what is on the lists below is known not to have been applied; whatever a later etcd or gRPC says is `Unknown`.
Sources: etcd's api/v3rpc/rpctypes/error.go (texts and codes), server/etcdserver/v3_server.go and apply/ (when each is
said), the same in 3.4 and 3.7.
"""

import grpc
import grpc.aio

from datastore.errors import Forbidden, Invalid, StoreError, Unavailable, Unknown

CLOSED = "the datastore is closed"
_CODE = grpc.StatusCode
_UNCONNECTED = ("failed to connect to all addresses", "DNS resolution failed")
"""gRPC's words for a call that found no connection, so that nothing was sent. They count only because its retries are
switched off."""
_UNPROPOSED = ("etcdserver: no leader", "etcdserver: too many requests", "raft proposal dropped")
"""`no leader` comes from the interceptor before the call, since every call demands a leader (`hasleader`)."""
_STALE_TOKEN = ("etcdserver: invalid auth token", "etcdserver: revision of auth store is old")
_REFUSED_USER = (
    "etcdserver: permission denied",
    "etcdserver: user name is empty",
    "etcdserver: authentication failed",
    *_STALE_TOKEN,
)
_TOO_LARGE = (
    "etcdserver: request is too large",
    "etcdserver: too many operations",
    "grpc: received message larger than max",
)
_NO_SPACE = "etcdserver: mvcc: database space exceeded"
_COMPACTED = "etcdserver: mvcc: required revision has been compacted"
_FUTURE = "etcdserver: mvcc: required revision is a future revision"

Failure = grpc.aio.AioRpcError


class RevisionGone(Exception):
    """What was asked for is no longer kept; no caller of the store sees this."""


class RevisionAhead(Exception):
    """The revision asked for isn't reached yet; no caller of the store sees this."""


class NoSpace(Exception):
    """The quota is used up; no caller of the store sees this.

    The write may be there all the same: the one that crosses the quota while it is applied is refused after it was
    applied (quotaApplierV3), in the same words as those after it, which are not.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"etcd at {endpoint} takes no writes: its space quota is used up (--quota-backend-bytes). "
            "Compact and defragment it, then run: etcdctl alarm disarm"
        )


def of_read(failure: Failure, endpoint: str) -> Exception:
    """What a failed read means; it has changed nothing."""
    if _says(failure, (_COMPACTED,)):
        return RevisionGone()
    if _says(failure, (_FUTURE,)):
        return RevisionAhead()
    if is_refused_user(failure):
        return Forbidden(told(failure, endpoint) + _hint(failure))
    return Unavailable(told(failure, endpoint))


def of_write(failure: Failure, endpoint: str) -> Exception:
    """What a failed write means."""
    why = told(failure, endpoint)
    if is_refused_user(failure):
        return Forbidden(why + _hint(failure))
    if _says(failure, (_NO_SPACE,)):
        return NoSpace(endpoint)
    if _says(failure, _TOO_LARGE):
        return Invalid("", f"is more than etcd takes in one request (--max-request-bytes, --max-txn-ops): {why}")
    if was_not_sent(failure) or _says(failure, _UNPROPOSED):
        return Unavailable(why)
    return Unknown(why)


def of_cancelled_watch(reason: str, endpoint: str) -> StoreError:
    """What it means that a server ended a watch, compaction apart."""
    why = f"etcd at {endpoint} ended the watch: {reason or 'without a reason'}"
    return Forbidden(why) if any(text in reason for text in _REFUSED_USER) else Unavailable(why)


def is_stale_token(failure: Failure) -> bool:
    """Whether a new token may help; what was asked was not done."""
    return _says(failure, _STALE_TOKEN)


def is_stale_reason(reason: str) -> bool:
    """The same of a watch that was ended for this reason."""
    return any(text in reason for text in _STALE_TOKEN)


def is_refused_user(failure: Failure) -> bool:
    """Whether etcd knows not, or doesn't let, the user."""
    return _says(failure, _REFUSED_USER)


def has_no_users(failure: Failure) -> bool:
    """Whether etcd's authentication is switched off."""
    return _says(failure, ("etcdserver: authentication is not enabled",))


def was_not_sent(failure: Failure) -> bool:
    """Whether there was no connection to send it on."""
    return failure.code() is _CODE.UNAVAILABLE and _says(failure, _UNCONNECTED)


def is_members(failure: Failure) -> bool:
    """Whether another member may do better: this one is away, slow, or apart from its cluster."""
    return failure.code() in (_CODE.UNAVAILABLE, _CODE.DEADLINE_EXCEEDED, _CODE.CANCELLED, _CODE.INTERNAL)


def told(failure: Failure, endpoint: str) -> str:
    """For people."""
    return f"etcd at {endpoint}: {failure.details() or 'no reason given'} ({failure.code().name})"


def _says(failure: Failure, texts: tuple[str, ...]) -> bool:
    details = failure.details() or ""
    return any(text in details for text in texts)


def _hint(failure: Failure) -> str:
    if _says(failure, ("user name is empty",)):
        return "; it asks for a user: give user= and password-file= in the datastore's address"
    return ""
