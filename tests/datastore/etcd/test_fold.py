"""Events folded: whatever happened, and wherever it is taken, a mirror is what there is."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore import codec
from datastore.etcd import fold
from datastore.etcd.etcd_pb2 import Event, KeyValue
from datastore.etcd.fold import Fold
from datastore.etcd.keys import Keys
from datastore.record import Key
from datastore.resources.node import Node, NodeSpec
from datastore.resources.value import Metadata
from datastore.resources.workloadendpoint import WorkloadEndpoint
from datastore.store import Gone, Where
from tests.datastore.samples import endpoint

KEYS = Keys("/tortie")
KIND = WorkloadEndpoint.KIND.full_name
WHERES = (None, Where("node", "a"), Where("namespace", "shop"), Where("zone", "x"))


def read(kv: KeyValue) -> WorkloadEndpoint:
    return codec.decode_as(WorkloadEndpoint, kv.value, str(kv.mod_revision))


@dataclass
class Kind:
    """What etcd has of one kind, and the events that made it so."""

    stored: dict[Key, KeyValue]
    revision: int = 0

    def put(self, key: Key, node: str) -> Event:
        self.revision += 1
        made = self.stored[key].create_revision if key in self.stored else self.revision
        kv = KeyValue(
            key=KEYS.object(key),
            create_revision=made,
            mod_revision=self.revision,
            value=codec.encode(endpoint(key.name, node, key.namespace)),
        )
        self.stored[key] = kv
        return Event(type=Event.PUT, kv=kv)

    def delete(self, key: Key) -> Event | None:
        if self.stored.pop(key, None) is None:
            return None
        self.revision += 1
        return Event(type=Event.DELETE, kv=KeyValue(key=KEYS.object(key), mod_revision=self.revision))

    def within(self, where: Where | None) -> dict[Key, WorkloadEndpoint]:
        held = {key: read(kv) for key, kv in self.stored.items()}
        return {
            key: found
            for key, found in held.items()
            if where is None or where.value in found.indexed().get(where.field, ())
        }


KEY = st.builds(Key, st.just(KIND), st.sampled_from(("shop", "bank")), st.sampled_from("pq"))
STEP = st.tuples(st.sampled_from(("put", "put", "delete", "take")), KEY, st.sampled_from("ab"))


@given(st.lists(STEP), st.lists(STEP, max_size=30), st.sampled_from(WHERES))
def test_a_mirror_of_what_was_taken_is_what_there_is(
    before: list[tuple[str, Key, str]], after: list[tuple[str, Key, str]], where: Where | None
) -> None:
    kind = Kind({})
    for verb, key, node in before:
        (kind.delete(key) if verb == "delete" else kind.put(key, node))
    mirror = kind.within(where)
    folded = Fold(KEYS, WorkloadEndpoint, where, mirror, read)
    for verb, key, node in (*after, ("take", Key(KIND, "", ""), "")):
        if verb == "take":
            for change in folded.take():
                if isinstance(change, Gone):
                    del mirror[Key(KIND, change.namespace, change.name)]  # it was there
                else:
                    at = Key(KIND, change.namespace, change.name)
                    assert mirror.get(at) != change
                    mirror[at] = change
            assert mirror == kind.within(where)
        elif event := kind.put(key, node) if verb == "put" else kind.delete(key):
            folded.add(event)
    assert folded.take() == ()


@pytest.mark.parametrize("limit", ["MAX_OBJECTS", "MAX_BYTES"])
def test_a_fold_says_when_it_is_full(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    kind = Kind({})
    events = [kind.put(Key(KIND, "shop", f"p{number}"), "a") for number in range(3)]
    monkeypatch.setattr(fold, limit, 3 if limit == "MAX_OBJECTS" else sum(len(event.kv.value) for event in events))
    folded = Fold(KEYS, WorkloadEndpoint, None, (), read)
    for event in events:
        assert not folded.is_full
        folded.add(event)
    assert folded.is_full
    folded.take()
    assert not folded.is_full


def test_what_is_overwritten_isnt_counted_twice() -> None:
    kind, key = Kind({}), Key(KIND, "shop", "p")
    folded = Fold(KEYS, WorkloadEndpoint, None, (), read)
    for _ in range(3):
        folded.add(kind.put(key, "a"))
    deleted = kind.delete(key)
    assert deleted
    folded.add(deleted)
    assert folded._bytes == 0


def test_a_kind_without_namespaces_has_nothing_in_one() -> None:
    node = Node(metadata=Metadata(name="n"), spec=NodeSpec(machine="m"))
    key = KEYS.object(Key(Node.KIND.full_name, "", "n"))
    kv = KeyValue(key=key, create_revision=2, mod_revision=2, value=codec.encode(node))
    folded = Fold(KEYS, Node, Where("namespace", ""), (), lambda kv: codec.decode_as(Node, kv.value, "2"))
    folded.add(Event(type=Event.PUT, kv=kv))
    assert folded.take() == ()
