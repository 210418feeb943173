"""The requests that writes are made of."""

from hypothesis import given
from hypothesis import strategies as st

from datastore.etcd import txns
from datastore.etcd.etcd_pb2 import Compare, TxnRequest
from datastore.etcd.keys import Keys
from datastore.etcd.txns import Swap, Swaps
from datastore.record import Key

KEYS = Keys("/tortie")
KEY = st.builds(Key, st.sampled_from(("nodes.tortie.dev", "pods")), st.just(""), st.sampled_from("ab"))
FIELDS = st.frozensets(st.tuples(st.sampled_from(("node", "namespace")), st.sampled_from("xy")))
SWAP = st.builds(
    Swap, KEY, st.integers(0, 3), st.none() | st.sampled_from((b"{}", b"{...}")), FIELDS, FIELDS
) | st.builds(Swap, KEY, st.integers(1, 9), st.sampled_from((b"{}", b"{...}")))


@given(st.lists(st.tuples(SWAP, st.integers(1, 2))))
def test_a_request_that_is_filled_in_anew_is_what_one_made_from_nothing_is(swaps: list[tuple[Swap, int]]) -> None:
    kept = Swaps(KEYS)
    for swap, founded in swaps:
        assert kept.request(swap, founded) == Swaps(KEYS).request(swap, founded)


def test_no_more_requests_are_kept_than_said() -> None:
    kept = Swaps(KEYS)
    first = Swap(Key("pods", "", "0"), 1, b"{}")
    expected = kept.request(first, 1)
    for number in range(2 * txns.KEPT):
        kept.request(Swap(Key("pods", "", str(number)), 1, b"{}"), 1)
    assert len(kept._kept) <= txns.KEPT
    assert kept.request(first, 1) == expected


def test_only_pointers_that_change_are_written() -> None:
    was = frozenset({("node", "a"), ("node", "b"), ("namespace", "shop")})
    now = frozenset({("node", "b"), ("node", "c"), ("namespace", "shop")})
    key = Key("pods", "shop", "p")
    request = TxnRequest.FromString(Swaps(KEYS).request(Swap(key, 7, b"{}", was, now), 3))
    *_, come, gone = request.success
    assert len(request.success) == 4
    assert come.request_put.key == KEYS.pointer(key, "node", "c")
    assert gone.request_delete_range.key == KEYS.pointer(key, "node", "a")


def test_a_write_happens_only_to_the_state_and_in_the_store_it_was_made_for() -> None:
    key = Key("pods", "shop", "p")
    for number in (7, 0):
        request = TxnRequest.FromString(Swaps(KEYS).request(Swap(key, number, b"{}"), 3))
        compares = [(one.target, one.key, one.WhichOneof("target_union"), one.mod_revision) for one in request.compare]
        assert compares == [
            (Compare.MOD, KEYS.object(key), "mod_revision", number),
            (Compare.MOD, KEYS.store, "mod_revision", 3),
        ]
