"""Kubernetes label selectors as data (metav1.LabelSelector); `policy.selectors` says what they match."""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from datastore.errors import Invalid
from datastore.resources import names
from datastore.resources.value import Value, check_below

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
"""metav1.LabelSelectorOperator."""


class LabelSelectorRequirement(Value, frozen=True, kw_only=True):
    """One of `matchExpressions`; all must hold."""

    key: str
    operator: str
    """One of `Operator`; a string here, so that the error can name a wrong one."""
    values: tuple[str, ...] = ()

    def check(self) -> None:
        """Judge key, operator and values together.

        Raises:
            Invalid: names the field within the requirement.
        """
        names.check_label_key(self.key, "key")
        if self.operator not in get_args(Operator):
            raise names.invalid("operator", self.operator, f"is no operator ({', '.join(get_args(Operator))})")
        takes_values = self.operator in ("In", "NotIn")
        if takes_values and not self.values:
            raise Invalid("values", f"{self.operator} needs at least one value")
        if self.values and not takes_values:
            raise Invalid("values", f"{self.operator} takes no values")
        for index, value in enumerate(self.values):
            names.check_label_value(value, f"values[{index}]")


class LabelSelector(Value, frozen=True, kw_only=True):
    """metav1.LabelSelector: every label and every expression must hold; an empty one selects everything."""

    match_labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    def check(self) -> None:
        """Judge labels and expressions.

        Raises:
            Invalid: names the field within the selector.
        """
        names.check_labels(self.match_labels, "matchLabels")
        for index, expression in enumerate(self.match_expressions):
            check_below(expression, f"matchExpressions[{index}]")
