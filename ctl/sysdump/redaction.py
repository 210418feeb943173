"""What mustn't leave the cluster, taken out of text and of objects: when in doubt it goes.

Secrets themselves are never asked for. What is left are the places where people put them by mistake: passwords in
addresses, tokens in logs, values of environment variables, keys in annotations.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

GONE = "REDACTED"
_KEPT_VARIABLES = ("TORTIE_", "KUBERNETES_SERVICE_", "NODE_NAME", "POD_", "PATH", "HOSTNAME", "LANG")
_DROPPED = ("managedFields", "binaryData", "kubectl.kubernetes.io/last-applied-configuration")
_WORDS = r"(?:passw(?:or)?d|passphrase|token|secret|credential|api[_-]?key|private[_-]?key|key[_-]data)"
_SECRET_NAME = re.compile(rf"{_WORDS}s?$", re.IGNORECASE)
_RULES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), GONE),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {GONE}"),
    (re.compile(r"""(://)[^\s/?#"'<>]*@"""), rf"\1{GONE}@"),
    (
        re.compile(
            rf"""([\w.-]*{_WORDS}s?["']?\s*[:=]\s*["']?)(?!true\b|false\b|null\b|{GONE})[^\s"',;&}}]+""", re.IGNORECASE
        ),
        rf"\1{GONE}",
    ),
)


def text(said: str) -> str:
    """Text without what looks like a secret."""
    for pattern, instead in _RULES:
        said = pattern.sub(instead, said)
    return said


def document(value: Any) -> Any:  # noqa: ANN401  # decoded JSON
    """An object, or a part of one, the same way; by the names of its fields besides."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [document(one) for one in value if not _is_secret(one)]
    if isinstance(value, Mapping):
        return {name: _field(name, one) for name, one in value.items() if name not in _DROPPED}
    return value


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """A program's environment: names of all, values of few."""
    return {name: _variable(name, value) for name, value in sorted(environment.items())}


def json_text(body: bytes) -> str:
    """A JSON answer, redacted and indented; redacted as text where it is none."""
    try:
        return json.dumps(document(json.loads(body)), indent=1)
    except ValueError:
        return text(body.decode(errors="replace"))


def _field(name: str, value: Any) -> Any:  # noqa: ANN401  # decoded JSON
    if name == "env" and isinstance(value, list):
        return [_container_variable(one) for one in value]
    if isinstance(value, str) and value and _SECRET_NAME.search(name):
        return GONE
    return document(value)


def _container_variable(one: Any) -> Any:  # noqa: ANN401  # decoded JSON
    if not isinstance(one, Mapping) or not isinstance(one.get("value"), str):
        return document(one)
    return {**one, "value": _variable(str(one.get("name", "")), one["value"])}


def _variable(name: str, value: str) -> str:
    if not name.startswith(_KEPT_VARIABLES) or _SECRET_NAME.search(name):
        return GONE
    return text(value)


def _is_secret(one: Any) -> bool:  # noqa: ANN401  # decoded JSON
    return isinstance(one, Mapping) and one.get("kind") == "Secret"
