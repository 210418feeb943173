"""Requests to etcd: everything is a Txn, so that what belongs together is read or written at one revision.

write    if     the object is at its revision (0: isn't there), and this is the store we know
then   put or delete it; put the kind's `newest`; put and delete pointers
else   read the store's and the object's key, to tell why not
read     the store's key, then what is asked for
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datastore.etcd.etcd_pb2 import (
    Compare,
    DeleteRangeRequest,
    KeyValue,
    PutRequest,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from datastore.etcd.keys import Range


@dataclass(frozen=True, slots=True)
class Swap:
    """A compare-and-swap of the object at `key`."""

    key: bytes
    number: int
    """The mod_revision it must be at; 0: it must not be there."""
    body: bytes | None
    """None: it is to be deleted."""
    newest: bytes
    """The kind's key of that name."""
    pointed: Sequence[bytes] = ()
    """Pointers that come."""
    unpointed: Sequence[bytes] = ()
    """Pointers that go."""


class Swaps:
    """Makes the requests of one store's swaps.

    That of a plain update, which is nearly every write, is made once and filled in: building it from nothing costs 20
    us, 2 % of the write.
    """

    def __init__(self, store: bytes) -> None:
        self._store = store
        self._plain = self._made(Swap(b"?", 1, b"?", b"?"), 0)

    def request(self, swap: Swap, created: int) -> bytes:
        """A swap that happens only in the store whose key was created at revision `created`."""
        if swap.body is None or not swap.number or swap.pointed or swap.unpointed:
            return self._made(swap, created).SerializeToString()
        request = self._plain
        compared, same_store = request.compare
        compared.key, compared.mod_revision = swap.key, swap.number
        same_store.create_revision = created
        put, newest = request.success
        put.request_put.key, put.request_put.value = swap.key, swap.body
        newest.request_put.key = swap.newest
        request.failure[1].request_range.key = swap.key
        return request.SerializeToString()

    def _made(self, swap: Swap, created: int) -> TxnRequest:
        compared = (
            Compare(target=Compare.MOD, key=swap.key, mod_revision=swap.number)
            if swap.number
            else Compare(target=Compare.CREATE, key=swap.key, create_revision=0)
        )
        same_store = Compare(target=Compare.CREATE, key=self._store, create_revision=created)
        changed = _delete(swap.key) if swap.body is None else put(swap.key, swap.body)
        return TxnRequest(
            compare=(compared, same_store),
            success=(
                changed,
                put(swap.newest, b""),
                *(put(pointer, b"") for pointer in swap.pointed),
                *(_delete(pointer) for pointer in swap.unpointed),
            ),
            failure=(get(self._store), get(swap.key, keys_only=True)),
        )


def made_once(key: bytes, value: bytes) -> bytes:
    """Put it unless it is there; read what is there otherwise."""
    absent = Compare(target=Compare.CREATE, key=key, create_revision=0)
    return TxnRequest(compare=(absent,), success=(put(key, value),), failure=(get(key),)).SerializeToString()


def reading(*ranges: RequestOp) -> bytes:
    """A transaction that reads."""
    return TxnRequest(success=ranges).SerializeToString()


def get(key: bytes, *, revision: int = 0, keys_only: bool = False, serializable: bool = False) -> RequestOp:
    """Read one key; at revision 0 as it is now."""
    found = RangeRequest(key=key, revision=revision, keys_only=keys_only, serializable=serializable)
    return RequestOp(request_range=found)


def get_range(keys: Range, limit: int, *, revision: int = 0, keys_only: bool = False) -> RequestOp:
    """Read the first `limit` keys of a range; at revision 0 as they are now."""
    found = RangeRequest(key=keys.start, range_end=keys.end, limit=limit, revision=revision, keys_only=keys_only)
    return RequestOp(request_range=found)


def put(key: bytes, value: bytes) -> RequestOp:
    """Write one key."""
    return RequestOp(request_put=PutRequest(key=key, value=value))


def found(response: TxnResponse) -> Iterable[RangeResponse]:
    """What each range of a read found."""
    return (one.response_range for one in response.responses)


def only(range_: RangeResponse) -> KeyValue | None:
    """The one key that was read; None if it isn't there."""
    return range_.kvs[0] if range_.kvs else None


def _delete(key: bytes) -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key))
