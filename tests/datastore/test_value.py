"""The mapping of unknown fields, which every value has."""

import copy
import pickle

import pytest

from datastore.resources.value import NO_UNKNOWN, Metadata, UnknownFields


def test_unknown_fields_are_compared_by_content() -> None:
    assert UnknownFields({"a": [1]}) == UnknownFields({"a": [1]})
    assert UnknownFields({"a": [1]}) != UnknownFields({"a": [2]})
    assert UnknownFields({}) == NO_UNKNOWN == {}
    assert hash(UnknownFields({"a": [1]})) == hash(UnknownFields({"a": [1]}))


def test_unknown_fields_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        NO_UNKNOWN["a"] = 1  # type: ignore[index]


def test_a_value_can_be_copied_and_sent_to_another_process() -> None:
    value = Metadata(name="a", unknown=UnknownFields({"b": [1]}))
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301  # our own bytes


def test_a_value_shows_only_what_was_set() -> None:
    assert repr(Metadata(name="a")) == "Metadata(name='a')"
