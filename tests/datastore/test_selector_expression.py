"""Calico's selectors: what they match, laws, and that bad ones say where they are wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import Invalid
from datastore.resources.selector_expression import (
    OPERATORS,
    And,
    Compared,
    Everything,
    Expression,
    Global,
    Has,
    Not,
    OneOf,
    Or,
)
from datastore.resources.selector_parser import LONGEST, parse

KEYS = ("a", "b", "app.kubernetes.io/name", "in", "has", "contains", "starts")
VALUES = st.sampled_from(["", "x", "y", "xy", "it's", 'say "hi"', "&& !", "ü"])
LABELS = st.dictionaries(st.sampled_from(KEYS), VALUES)


def _compared() -> st.SearchStrategy[Expression]:
    return st.builds(Compared, st.sampled_from(KEYS), st.sampled_from(OPERATORS), VALUES)


def _one_of() -> st.SearchStrategy[Expression]:
    values = st.lists(VALUES, unique=True, max_size=3).map(lambda found: tuple(sorted(found)))
    return st.builds(OneOf, st.sampled_from(KEYS), values, st.booleans())


def _below(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    negated = inner.filter(lambda one: not isinstance(one, Not)).map(Not)
    return st.one_of(several.map(And), several.map(Or), negated)


SIMPLE = st.one_of(
    st.just(Everything()), st.just(Global()), st.builds(Has, st.sampled_from(KEYS)), _compared(), _one_of()
)
EXPRESSIONS = st.recursive(SIMPLE, _below, max_leaves=8)


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        pytest.param("", {}, True, id="no text selects everything"),
        pytest.param(" \t\n", {"a": "x"}, True, id="nor does white space say anything"),
        pytest.param("all()", {}, True, id="all()"),
        pytest.param("all( )", {}, True, id="white space within"),
        pytest.param("global()", {}, True, id="global()"),
        pytest.param("has(a)", {"a": ""}, True, id="a label without a value is there"),
        pytest.param("has(a)", {"b": "x"}, False, id="another label is not it"),
        pytest.param("!has(a)", {}, True, id="not there"),
        pytest.param("a == 'x'", {"a": "x"}, True, id="equal"),
        pytest.param('a=="x"', {"a": "x"}, True, id="in double quotes, without spaces"),
        pytest.param("a == 'x'", {}, False, id="what isn't there equals nothing"),
        pytest.param("a == ''", {}, False, id="not even no value"),
        pytest.param("a != 'x'", {}, True, id="and differs from everything"),
        pytest.param("a != 'x'", {"a": "x"}, False, id="not different"),
        pytest.param("a in {'x', 'y'}", {"a": "y"}, True, id="in"),
        pytest.param("a in {'x', 'y',}", {"a": "z"}, False, id="not among them; a comma at the end is Calico's"),
        pytest.param("a in {}", {"a": "x"}, False, id="among none"),
        pytest.param("a not in {'x'}", {}, True, id="not in holds for what isn't there"),
        pytest.param("a notin{'x'}", {"a": "x"}, False, id="not in as one word"),
        pytest.param("a contains 'ell'", {"a": "hello"}, True, id="contains"),
        pytest.param("a contains 'x'", {}, False, id="contains, of what isn't there"),
        pytest.param("a starts with 'he'", {"a": "hello"}, True, id="starts with"),
        pytest.param("a starts with 'lo'", {"a": "hello"}, False, id="but not with its end"),
        pytest.param("a ends with 'lo'", {"a": "hello"}, True, id="ends with"),
        pytest.param("a ends with 'he'", {"a": "hello"}, False, id="but not with its start"),
        pytest.param("a == 'x' || b == 'y' && has(c)", {"a": "x"}, True, id="&& binds closer than ||"),
        pytest.param("(a == 'x' || b == 'y') && has(c)", {"a": "x"}, False, id="parentheses bind closer"),
        pytest.param("!a == 'x'", {"a": "y"}, True, id="! is of the whole condition"),
        pytest.param("!!has(a)", {"a": ""}, True, id="twice not"),
        pytest.param("!(has(a) || has(b))", {"b": ""}, False, id="not of what is in parentheses"),
        pytest.param("has == 'x' && in == 'y'", {"has": "x", "in": "y"}, True, id="labels called as operators"),
        pytest.param('a == "it\'s"', {"a": "it's"}, True, id="one kind of quotes within the other"),
        pytest.param("kubernetes.io/os == 'linux'", {"kubernetes.io/os": "linux"}, True, id="a key with a prefix"),
    ],
)
def test_what_a_text_selects(text: str, labels: dict[str, str], selected: bool) -> None:
    assert parse(text).matches(labels) is selected


@pytest.mark.parametrize(
    ("text", "said", "at"),
    [
        pytest.param("a", "==, !=, in", 2, id="a label alone"),
        pytest.param("a = 'x'", "nothing can begin so", 3, id="one ="),
        pytest.param("a == x", "a value in quotes", 6, id="a value without quotes"),
        pytest.param("a == 'x", "a quote isn't closed", 6, id="an open quote"),
        pytest.param("a == 'x' & b == 'y'", "nothing can begin so", 10, id="one &"),
        pytest.param("a == 'x' b == 'y'", "&& or \\|\\|", 10, id="nothing between"),
        pytest.param("a == 'x' &&", "a label", 12, id="nothing behind &&"),
        pytest.param("(a == 'x'", "\\) is expected", 10, id="an open parenthesis"),
        pytest.param("a == 'x')", "&& or \\|\\|", 9, id="a parenthesis that none opened"),
        pytest.param("a in 'x'", "{ is expected", 6, id="in without a set"),
        pytest.param("a in {'x' 'y'}", "} is expected", 11, id="values without a comma"),
        pytest.param("a in {x}", "a value in quotes", 7, id="a set of words"),
        pytest.param("has()", "the label's key", 5, id="has of nothing"),
        pytest.param("has(a", "\\) is expected", 6, id="has without an end"),
        pytest.param("all(a)", "\\) is expected", 5, id="all of something"),
        pytest.param("a starts 'x'", "==, !=, in", 3, id="half an operator"),
        pytest.param("a # b", "nothing can begin so", 3, id="a strange character"),
        pytest.param("== 'x'", "a label", 1, id="no label"),
        pytest.param("(" * 41 + "has(a)" + ")" * 41, "more than 40 parentheses", 42, id="too deep"),
    ],
)
def test_a_text_that_is_no_selector_says_what_is_wrong_and_where(text: str, said: str, at: int) -> None:
    with pytest.raises(Invalid, match=f"{said}.* at character {at}$"):
        parse(text)


def test_a_text_that_is_too_long_is_not_read() -> None:
    assert parse("has(a)".ljust(LONGEST)) == Has("a")
    with pytest.raises(Invalid, match="4097 characters"):
        parse("has(a)".ljust(LONGEST + 1))


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        pytest.param("!(!has(a))", Has("a"), id="not of not"),
        pytest.param("((has(a)))", Has("a"), id="parentheses around one"),
        pytest.param("a in {'y', 'x', 'y'}", OneOf("a", ("x", "y")), id="values in any order, twice"),
        pytest.param(" && ".join(["(has(a))"] * 50), And((Has("a"),) * 50), id="many parentheses beside each other"),
    ],
)
def test_what_says_the_same_is_the_same_expression(text: str, expression: Expression) -> None:
    assert parse(text) == expression


@given(EXPRESSIONS)
def test_the_text_of_an_expression_says_the_same(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@given(EXPRESSIONS, LABELS)
def test_not_selects_what_the_operand_does_not(expression: Expression, labels: dict[str, str]) -> None:
    assert parse(f"!({expression})").matches(labels) is not expression.matches(labels)


@given(EXPRESSIONS, EXPRESSIONS, LABELS)
def test_and_and_or_are_those_of_logic(one: Expression, other: Expression, labels: dict[str, str]) -> None:
    both, either = one.matches(labels) and other.matches(labels), one.matches(labels) or other.matches(labels)
    assert parse(f"({one}) && ({other})").matches(labels) is both
    assert parse(f"({one}) || ({other})").matches(labels) is either
    assert parse(f"!(!({one}) || !({other}))").matches(labels) is both


@given(st.sampled_from(KEYS), st.lists(VALUES.filter(lambda one: "'" not in one), max_size=3), LABELS)
def test_each_operator_is_what_its_parts_say(key: str, values: list[str], labels: dict[str, str]) -> None:
    listed = ", ".join(f"'{value}'" for value in values)
    each = " || ".join(f"{key} == '{value}'" for value in values) or "!all()"
    assert parse(f"{key} in {{{listed}}}").matches(labels) is parse(each).matches(labels)
    assert parse(f"{key} not in {{{listed}}}").matches(labels) is not parse(each).matches(labels)
    for value in values:
        assert parse(f"{key} != '{value}'").matches(labels) is not parse(f"{key} == '{value}'").matches(labels)
        assert parse(f"{key} contains '{value}'").matches(labels) is (key in labels and value in labels[key])
        if parse(f"{key} starts with '{value}' && {key} ends with '{value}'").matches(labels):
            assert parse(f"{key} contains '{value}' && has({key})").matches(labels)


_PIECES = (
    "a",
    "==",
    "!=",
    "!",
    "(",
    ")",
    "&&",
    "||",
    "'x'",
    '"',
    "'",
    "has(",
    "all()",
    "in",
    "not",
    "{",
    "}",
    ",",
    "#",
)


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map(" ".join) | st.text(max_size=30))
def test_whatever_comes_is_a_selector_or_says_where_it_is_none(text: str) -> None:
    try:
        found = parse(text)
    except Invalid as error:
        at = re.search(r"at character (\d+)$", error.reason)
        assert at is not None
        assert 1 <= int(at.group(1)) <= len(text) + 1
    else:
        assert parse(str(found)) == found
