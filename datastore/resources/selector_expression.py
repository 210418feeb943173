"""What Calico's selector expressions say about labels, as values; `selector_parser` reads the texts.

A label that isn't there fulfils `!=` and `not in`, and none of the other operators. `global()` selects everything; it
says more only where a policy selects namespaces.

Source: projectcalico/calico libcalico-go/lib/selector/parser/ast.go.
"""

from collections.abc import Mapping
from dataclasses import dataclass


class Expression:
    """What a text says; equal expressions have equal `str`, which is a text that says it."""

    __slots__ = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are selected."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Everything(Expression):
    """`all()`, or no text at all."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        return True

    def __str__(self) -> str:
        return "all()"


@dataclass(frozen=True, slots=True)
class Global(Expression):
    """`global()`: of namespaces, what is in none."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        return True

    def __str__(self) -> str:
        return "global()"


@dataclass(frozen=True, slots=True)
class Has(Expression):
    """The label is there."""

    key: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        return self.key in labels

    def __str__(self) -> str:
        return f"has({self.key})"


@dataclass(frozen=True, slots=True)
class Compared(Expression):
    """The label's value, by one of `OPERATORS`."""

    key: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        found = labels.get(self.key)
        if found is None:
            return self.operator == "!="
        match self.operator:
            case "==":
                return found == self.value
            case "!=":
                return found != self.value
            case "contains":
                return self.value in found
            case "starts with":
                return found.startswith(self.value)
            case _:
                return found.endswith(self.value)

    def __str__(self) -> str:
        return f"{self.key} {self.operator} {_quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class OneOf(Expression):
    """The label has one of some values, or `among` is false and it has none of them."""

    key: str
    values: tuple[str, ...]
    """Sorted and distinct."""
    among: bool = True

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        return (labels.get(self.key) in self.values) is self.among

    def __str__(self) -> str:
        listed = ", ".join(map(_quoted, self.values))
        return f"{self.key} {'in' if self.among else 'not in'} {{{listed}}}"


@dataclass(frozen=True, slots=True)
class Not(Expression):
    """What the operand doesn't select; the operand is no `Not`."""

    operand: Expression

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        return not self.operand.matches(labels)

    def __str__(self) -> str:
        return f"!({self.operand})" if isinstance(self.operand, And | Or) else f"!{self.operand}"


@dataclass(frozen=True, slots=True)
class And(Expression):
    """What all of two or more select."""

    operands: tuple[Expression, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        return all(operand.matches(labels) for operand in self.operands)

    def __str__(self) -> str:
        return " && ".join(f"({one})" if isinstance(one, And | Or) else str(one) for one in self.operands)


@dataclass(frozen=True, slots=True)
class Or(Expression):
    """What one of two or more selects."""

    operands: tuple[Expression, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """See `Expression.matches`."""
        return any(operand.matches(labels) for operand in self.operands)

    def __str__(self) -> str:
        return " || ".join(f"({one})" if isinstance(one, Or) else str(one) for one in self.operands)


OPERATORS = ("==", "!=", "contains", "starts with", "ends with")
"""Of `Compared`."""


def _quoted(value: str) -> str:
    quote = "'" if '"' in value else '"'
    return f"{quote}{value}{quote}"
