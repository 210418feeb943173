"""Where things lie: no two keys are one, every part can be read back, and a range holds its own and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import Invalid
from datastore.etcd.keys import Keys, Range
from datastore.record import Key

KEYS = Keys("/tortie")
TEXT = st.text(alphabet=st.sampled_from("a0./%-_:~\x00\N{SNOWMAN}"), max_size=5)
KIND = st.sampled_from(("nodes", "nodes.tortie.dev", "leases.coordination.k8s.io"))
KEY = st.builds(Key, KIND, TEXT, TEXT)


def holds(keys: Range, raw: bytes) -> bool:
    return keys.start <= raw < keys.end


def test_keys_can_be_read_by_people() -> None:
    block = Key("ipblocks.tortie.dev", "", "10-65-0-0-26")
    assert KEYS.store == b"/tortie/store"
    assert KEYS.object(block) == b"/tortie/object/ipblocks.tortie.dev//10-65-0-0-26"
    assert KEYS.newest(block.kind) == b"/tortie/newest/ipblocks.tortie.dev"
    cell = KEYS.pointer(block, "cell", "10.65.0.0/20")
    assert cell == b"/tortie/field/ipblocks.tortie.dev/cell/10.65.0.0%2F20//10-65-0-0-26"


@given(KEY)
def test_an_object_is_known_by_where_it_lies(key: Key) -> None:
    assert KEYS.key_of_object(KEYS.object(key)) == key


@given(KEY, TEXT, TEXT)
def test_a_pointer_leads_to_its_object(key: Key, field: str, value: str) -> None:
    assert KEYS.key_of_pointer(KEYS.pointer(key, field, value)) == key


@given(KEY, KEY, TEXT, TEXT, TEXT, TEXT)
def test_no_two_pointers_are_one(one: Key, other: Key, field: str, value: str, field2: str, value2: str) -> None:
    same = KEYS.pointer(one, field, value) == KEYS.pointer(other, field2, value2)
    assert same == ((one, field, value) == (other, field2, value2))


@given(KEY, KIND, TEXT)
def test_a_range_of_objects_holds_its_kinds_or_namespaces(key: Key, kind: str, namespace: str) -> None:
    raw = KEYS.object(key)
    assert holds(KEYS.objects(kind), raw) == (key.kind == kind)
    assert holds(KEYS.objects(kind, namespace), raw) == (key.kind == kind and key.namespace == namespace)


@given(KEY, TEXT, TEXT, TEXT, TEXT)
def test_a_range_of_pointers_holds_those_of_one_value(
    key: Key, field: str, value: str, asked_field: str, asked: str
) -> None:
    held = holds(KEYS.pointers(key.kind, asked_field, asked), KEYS.pointer(key, field, value))
    assert held == ((field, value) == (asked_field, asked))


def test_a_name_that_is_no_unicode_is_invalid() -> None:
    with pytest.raises(Invalid):
        KEYS.object(Key("nodes", "", "\ud800"))
