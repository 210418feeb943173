"""What a label selector matches, and the one text of it that is hashed, compared and shown.

Semantics are those of k8s.io/apimachinery/pkg/labels: all requirements must hold; NotIn and DoesNotExist hold for an
object that doesn't have the label at all; a selector without requirements matches everything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from datastore.errors import Invalid
from datastore.resources.selector import LabelSelector


class Operator(Enum):
    """metav1.LabelSelectorOperator."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; `values` are sorted and distinct."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it."""
        if self.operator is Operator.IN:
            return labels.get(self.key) in self.values
        if self.operator is Operator.NOT_IN:
            return labels.get(self.key) not in self.values
        return (self.key in labels) is (self.operator is Operator.EXISTS)

    def __str__(self) -> str:
        """As kubectl's -l takes it; In and NotIn of one value are = and !=."""
        listed = ",".join(self.values)
        match self.operator:
            case Operator.IN:
                return f"{self.key}={listed}" if len(self.values) == 1 else f"{self.key} in ({listed})"
            case Operator.NOT_IN:
                return f"{self.key}!={listed}" if len(self.values) == 1 else f"{self.key} notin ({listed})"
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold; made by `select`, which sorts them, so that equal selectors have equal text."""

    text: str
    requirements: tuple[Requirement, ...] = field(compare=False)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether every requirement holds."""
        return all(requirement.holds(labels) for requirement in self.requirements)

    def failing(self, labels: Mapping[str, str]) -> tuple[Requirement, ...]:
        """The requirements that don't hold."""
        return tuple(requirement for requirement in self.requirements if not requirement.holds(labels))

    def narrowing(self) -> tuple[Requirement, ...]:
        """The requirements that name the values a label must have: only objects with one of them can match."""
        return tuple(requirement for requirement in self.requirements if requirement.operator is Operator.IN)

    def __str__(self) -> str:
        return self.text


def select(requirements: Iterable[Requirement] = ()) -> Selector:
    """The selector of these requirements, in canonical order and without repetitions."""
    distinct = {str(requirement): requirement for requirement in requirements}
    texts = sorted(distinct)
    return Selector(",".join(texts) or "{}", tuple(distinct[text] for text in texts))


def one_of(key: str, *values: str) -> Requirement:
    """The label has one of these values."""
    return Requirement(key, Operator.IN, tuple(sorted(set(values))))


def from_label_selector(selector: LabelSelector) -> Selector:
    """What a LabelSelector says.

    Raises:
        Invalid: an operator that doesn't exist.
    """
    labels = [one_of(key, value) for key, value in selector.match_labels.items()]
    expressions = []
    for index, expression in enumerate(selector.match_expressions):
        try:
            operator = Operator(expression.operator)
        except ValueError:
            raise Invalid(f"matchExpressions[{index}].operator", f"{expression.operator!r} is no operator") from None
        expressions.append(Requirement(expression.key, operator, tuple(sorted(set(expression.values)))))
    return select((*labels, *expressions))


EVERYTHING = select()
"""Matches whatever labels there are, or none."""
