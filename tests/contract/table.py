"""Tables of cases: each by the relay, the first by the other ways in too.

What is behind a way in is the same program for all of them, so a long table by each of them would say little more, and
`python -m cni` takes half a second to start. What differs between the ways (the environment, namespaces, what happens
without an agent) is tested by each in full.
"""

from collections.abc import Sequence
from typing import Any

import pytest

_FIRST = 1
_OTHERS = ("python", "alone")
_Case = type(pytest.param(0))


def table(names: str, cases: Sequence[Any]) -> pytest.MarkDecorator:
    """As `pytest.mark.parametrize`, for a test that takes `way` besides."""
    rows = [_row(case, names.count(",")) for case in cases]
    chosen = [("relay", *row) for row in rows] + [(other, *row) for other in _OTHERS for row in rows[:_FIRST]]
    params = [pytest.param(way, *values, id=f"{way}-{name}") for way, name, values in chosen]
    return pytest.mark.parametrize(f"way,{names}", params, indirect=["way"])


def _row(case: Any, commas: int) -> tuple[str, tuple[Any, ...]]:  # noqa: ANN401
    if isinstance(case, _Case):
        return str(case.id), tuple(case.values)
    values = tuple(case) if commas else (case,)
    return "-".join(repr(value) for value in values), values
