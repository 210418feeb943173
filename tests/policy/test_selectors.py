"""What selectors match, and their one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import Invalid
from datastore.resources.selector import LabelSelector, LabelSelectorRequirement
from policy import selectors
from policy.selectors import Operator, Requirement, one_of, select

WEB = {"app": "web", "tier": "front", "empty": ""}


@pytest.mark.parametrize(
    ("operator", "key", "values", "expected"),
    [
        pytest.param(Operator.IN, "app", ("web",), True, id="In holds for a listed value"),
        pytest.param(Operator.IN, "app", ("api", "web"), True, id="In holds for any listed value"),
        pytest.param(Operator.IN, "app", ("api",), False, id="In fails for another value"),
        pytest.param(Operator.IN, "zone", ("a",), False, id="In fails without the label"),
        pytest.param(Operator.IN, "empty", ("",), True, id="In holds for an empty value"),
        pytest.param(Operator.IN, "zone", ("",), False, id="no label is not an empty value"),
        pytest.param(Operator.NOT_IN, "app", ("web",), False, id="NotIn fails for a listed value"),
        pytest.param(Operator.NOT_IN, "app", ("api",), True, id="NotIn holds for another value"),
        pytest.param(Operator.NOT_IN, "zone", ("a",), True, id="NotIn holds without the label"),
        pytest.param(Operator.EXISTS, "empty", (), True, id="Exists holds for an empty value"),
        pytest.param(Operator.EXISTS, "zone", (), False, id="Exists fails without the label"),
        pytest.param(Operator.DOES_NOT_EXIST, "zone", (), True, id="DoesNotExist holds without the label"),
        pytest.param(Operator.DOES_NOT_EXIST, "app", (), False, id="DoesNotExist fails with the label"),
    ],
)
def test_a_requirement_holds(operator: Operator, key: str, values: tuple[str, ...], expected: bool) -> None:
    assert Requirement(key, operator, values).holds(WEB) is expected


def test_every_requirement_must_hold() -> None:
    assert select([one_of("app", "web"), one_of("tier", "front")]).matches(WEB)
    assert not select([one_of("app", "web"), one_of("tier", "back")]).matches(WEB)


def test_an_empty_selector_matches_everything() -> None:
    assert selectors.EVERYTHING.matches({})
    assert selectors.from_label_selector(LabelSelector()) == selectors.EVERYTHING


@pytest.mark.parametrize(
    ("requirements", "text"),
    [
        pytest.param([], "{}", id="nothing required"),
        pytest.param([one_of("app", "web")], "app=web", id="one value is an equality"),
        pytest.param([one_of("app", "web", "api")], "app in (api,web)", id="values are sorted"),
        pytest.param([one_of("b", "1"), one_of("a", "1")], "a=1,b=1", id="requirements are sorted"),
        pytest.param([one_of("a", "1"), one_of("a", "1")], "a=1", id="repetitions go"),
        pytest.param([Requirement("a", Operator.NOT_IN, ("1",))], "a!=1", id="NotIn of one value"),
        pytest.param([Requirement("a", Operator.NOT_IN, ("1", "2"))], "a notin (1,2)", id="NotIn of two values"),
        pytest.param([Requirement("a", Operator.EXISTS)], "a", id="Exists"),
        pytest.param([Requirement("a", Operator.DOES_NOT_EXIST)], "!a", id="DoesNotExist"),
    ],
)
def test_equal_selectors_have_one_text(requirements: list[Requirement], text: str) -> None:
    assert select(requirements).text == text


def test_a_label_selector_joins_labels_and_expressions() -> None:
    written = LabelSelector(
        match_labels={"app": "web"},
        match_expressions=(LabelSelectorRequirement(key="tier", operator="NotIn", values=("back", "back")),),
    )
    assert selectors.from_label_selector(written).text == "app=web,tier!=back"


def test_an_unknown_operator_is_refused_with_its_place() -> None:
    written = LabelSelector(match_expressions=(LabelSelectorRequirement(key="tier", operator="Near"),))
    with pytest.raises(Invalid, match=r"matchExpressions\[0\]\.operator"):
        selectors.from_label_selector(written)


_REQUIREMENTS = st.lists(
    st.builds(
        Requirement,
        st.sampled_from("ab"),
        st.sampled_from(Operator),
        st.sets(st.sampled_from("12"), min_size=1).map(lambda values: tuple(sorted(values))),
    ),
    max_size=3,
)
_LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("123"))


@given(_REQUIREMENTS, _LABELS)
def test_a_selector_matches_exactly_if_nothing_fails(requirements: list[Requirement], labels: dict[str, str]) -> None:
    selector = select(requirements)
    assert selector.matches(labels) is not bool(selector.failing(labels))
    assert selector.matches(labels) is all(requirement.holds(labels) for requirement in requirements)
