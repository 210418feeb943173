"""Condition: one thing that is so of an object or isn't, and why, in its status.

Source: k8s.io/apimachinery/pkg/apis/meta/v1, Condition.
"""

from datastore.resources.value import Value


class Condition(Value, frozen=True, kw_only=True):
    """Told apart by its type; for people, and for `kubectl wait --for=condition=...`."""

    type: str
    status: str
    """True, False or Unknown."""
    reason: str = ""
    """One word, for programs."""
    message: str = ""
    """What is so, and what to do about it."""
    last_transition_time: str = ""
    """Since when the status is what it is (RFC 3339)."""
    observed_generation: int = 0
    """Of the spec that was judged (`Metadata.generation`); 0 where the store tells none."""
