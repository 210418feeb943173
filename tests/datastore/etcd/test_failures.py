"""What etcd and gRPC say, to what callers are told: whoever isn't sure that a write wasn't applied says so."""

import grpc
import grpc.aio
import pytest

from datastore.errors import Forbidden, Invalid, Unavailable, Unknown
from datastore.etcd import failures
from datastore.etcd.failures import NoSpace, RevisionAhead, RevisionGone

CODE = grpc.StatusCode


def failure(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "details", "write", "read"),
    [
        (CODE.UNAVAILABLE, "failed to connect to all addresses; last error: refused", Unavailable, Unavailable),
        (CODE.UNAVAILABLE, "DNS resolution failed for db:2379", Unavailable, Unavailable),
        (CODE.UNAVAILABLE, "Socket closed", Unknown, Unavailable),
        (CODE.UNAVAILABLE, "recvmsg:Connection reset by peer", Unknown, Unavailable),
        (CODE.UNAVAILABLE, "etcdserver: no leader", Unavailable, Unavailable),
        (CODE.UNAVAILABLE, "etcdserver: leader changed", Unknown, Unavailable),
        (CODE.UNAVAILABLE, "etcdserver: server stopped", Unknown, Unavailable),
        (CODE.UNAVAILABLE, "etcdserver: request timed out", Unknown, Unavailable),
        (
            CODE.UNAVAILABLE,
            "etcdserver: request timed out, possibly due to previous leader failure",
            Unknown,
            Unavailable,
        ),
        (CODE.DEADLINE_EXCEEDED, "Deadline Exceeded", Unknown, Unavailable),
        (CODE.CANCELLED, "etcdserver: request canceled", Unknown, Unavailable),
        (CODE.UNKNOWN, "raft proposal dropped", Unavailable, Unavailable),
        (CODE.UNKNOWN, "anything new", Unknown, Unavailable),
        (CODE.INTERNAL, "", Unknown, Unavailable),
        (CODE.DATA_LOSS, "etcdserver: corrupt cluster", Unknown, Unavailable),
        (CODE.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Unavailable, Unavailable),
        (CODE.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", NoSpace, Unavailable),
        (CODE.RESOURCE_EXHAUSTED, "grpc: received message larger than max (2 vs. 1)", Invalid, Unavailable),
        (CODE.INVALID_ARGUMENT, "etcdserver: request is too large", Invalid, Unavailable),
        (CODE.INVALID_ARGUMENT, "etcdserver: too many operations in txn request", Invalid, Unavailable),
        (CODE.PERMISSION_DENIED, "etcdserver: permission denied", Forbidden, Forbidden),
        (CODE.UNAUTHENTICATED, "etcdserver: invalid auth token", Forbidden, Forbidden),
        (CODE.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", Forbidden, Forbidden),
        (CODE.INVALID_ARGUMENT, "etcdserver: user name is empty", Forbidden, Forbidden),
        (
            CODE.INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password",
            Forbidden,
            Forbidden,
        ),
        (CODE.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", Unknown, RevisionGone),
        (CODE.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", Unknown, RevisionAhead),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_failure_is_told_as_what_is_certain(
    code: grpc.StatusCode, details: str, write: type[Exception], read: type[Exception]
) -> None:
    assert type(failures.of_write(failure(code, details), "db:1")) is write
    assert type(failures.of_read(failure(code, details), "db:1")) is read


def test_a_message_says_which_member_and_what_it_said() -> None:
    told = failures.of_write(failure(CODE.UNAVAILABLE, "Socket closed"), "db:1")
    assert str(told) == "etcd at db:1: Socket closed (UNAVAILABLE)"


def test_who_gave_no_user_is_told_how() -> None:
    told = failures.of_read(failure(CODE.INVALID_ARGUMENT, "etcdserver: user name is empty"), "db:1")
    assert "password-file=" in str(told)
