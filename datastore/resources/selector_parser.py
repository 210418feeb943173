"""Reads Calico's selectors, such as `rack == 'a' && !has(spare)`.

    expression   and || and ...                lowest
    and          not && not ...
    not          ! not | ( expression ) | all() | global() | has(KEY)
                 | KEY == 'v' | KEY != 'v' | KEY contains 'v' | KEY starts with 'v' | KEY ends with 'v'
                 | KEY in {'v', ...} | KEY not in {'v', ...}

Strings stand in either kind of quotes and have no escapes. A text without anything selects everything.

Source: projectcalico/calico libcalico-go/lib/selector (tokenizer.go, parser.go). Line breaks are white space here, for
YAML's block texts end in one; there they are refused.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from datastore.errors import Invalid
from datastore.resources.selector_expression import (
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

LONGEST = 4096
"""Characters of a text that is read at all; the largest object's selectors are far below."""
_DEEPEST = 40
"""Parentheses within parentheses: each costs frames of the stack, and texts come from outside."""
_SHOWN = 60


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """What a text says.

    Raises:
        Invalid: it is no selector; says from which character on, without a path.
    """
    if len(text) > LONGEST:
        raise Invalid("", f"is {len(text)} characters long; a selector has at most {LONGEST}")
    return _Parser(text).whole()


_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r"""(?P<string>"[^"]*"|'[^']*')|(?P<mark>==|!=|&&|\|\||[!(){},])|(?P<word>[A-Za-z0-9_./-]+)""")
_WORDS = {"contains": "contains", "startswith": "starts with", "endswith": "ends with", "in": "in", "notin": "not in"}
_TWO_WORDS = {"starts": "with", "ends": "with", "not": "in"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._read()
        self._next = 0
        self._depth = 0

    def whole(self) -> Expression:
        if self._here.kind == "end":
            return Everything()
        found = self._either()
        if self._here.kind != "end":
            raise self._wrong("&& or || is expected")
        return found

    def _either(self) -> Expression:
        found = [self._both()]
        while self._took("||"):
            found.append(self._both())
        return found[0] if len(found) == 1 else Or(tuple(found))

    def _both(self) -> Expression:
        found = [self._one()]
        while self._took("&&"):
            found.append(self._one())
        return found[0] if len(found) == 1 else And(tuple(found))

    def _one(self) -> Expression:
        negated = False
        while self._took("!"):
            negated = not negated
        found = self._positive()
        if not negated:
            return found
        return found.operand if isinstance(found, Not) else Not(found)

    def _positive(self) -> Expression:
        if self._took("("):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self._wrong(f"more than {_DEEPEST} parentheses are open")
            found = self._either()
            self._need(")")
            self._depth -= 1
            return found
        key = self._word("a label, all(), has(...) or ( is expected")
        if key in ("all", "global", "has") and self._took("("):
            label = self._word("the label's key is expected") if key == "has" else ""
            self._need(")")
            return Has(label) if key == "has" else Everything() if key == "all" else Global()
        return self._condition(key)

    def _condition(self, key: str) -> Expression:
        operator = self._operator()
        if operator not in ("in", "not in"):
            return Compared(key, operator, self._string())
        self._need("{")
        values: set[str] = set()
        while self._here.text != "}":
            values.add(self._string())
            if not self._took(","):
                break
        self._need("}")
        return OneOf(key, tuple(sorted(values)), among=operator == "in")

    def _operator(self) -> str:
        token = self._here
        if token.kind == "mark" and token.text in ("==", "!="):
            self._next += 1
            return token.text
        word = token.text if token.kind == "word" else ""
        if word in _TWO_WORDS and self._tokens[self._next + 1].text == _TWO_WORDS[word]:
            self._next += 1
            word += _TWO_WORDS[word]
        if word not in _WORDS:
            raise self._wrong("==, !=, in, not in, contains, starts with or ends with is expected")
        self._next += 1
        return _WORDS[word]

    def _string(self) -> str:
        token = self._here
        if token.kind != "string":
            raise self._wrong("a value in quotes is expected")
        self._next += 1
        return token.text[1:-1]

    def _word(self, expected: str) -> str:
        token = self._here
        if token.kind != "word":
            raise self._wrong(expected)
        self._next += 1
        return token.text

    def _need(self, mark: str) -> None:
        if not self._took(mark):
            raise self._wrong(f"{mark} is expected")

    def _took(self, mark: str) -> bool:
        found = self._here.kind == "mark" and self._here.text == mark
        self._next += found
        return found

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _read(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = _end_of_space(self._text, 0)
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                what = "a quote isn't closed" if self._text[at] in "\"'" else "nothing can begin so"
                raise _invalid(self._text, at, what)
            tokens.append(_Token(str(found.lastgroup), found.group(), at))
            at = _end_of_space(self._text, found.end())
        return [*tokens, _Token("end", "", at)]

    def _wrong(self, what: str) -> Invalid:
        return _invalid(self._text, self._here.at, what)


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _invalid(text: str, at: int, what: str) -> Invalid:
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    return Invalid("", f"{shown!r} is no selector: {what} at character {at + 1}")
