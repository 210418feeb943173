"""Objects that people wrote: YAML or JSON files, folders of them, or standard input; judged whole before any is used.

Every error names file, object and field. Kubernetes' habits: several documents in a file, `kind: List`, an empty
document is nothing; a key that stands twice is an error, not a choice.
"""

import sys
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from datastore import codec
from datastore.errors import Invalid
from datastore.resources.ippool import IPPool
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.value import Resource
from datastore.transfer import dump

DEFAULT_NAMESPACE = "default"
_OWN_GROUP = IPPool.KIND.group
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object, and where it stands."""

    resource: Resource
    source: str


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe loader, but a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """See `yaml.SafeLoader`."""
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# Dates are text, as they are to kubectl: a name or a label may look like one.
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def read(paths: Iterable[str], namespace: str = "") -> list[Manifest]:
    """Every object in files and folders (`-` is standard input), each checked.

    Raises:
        Invalid: names file, object and field.
    """
    return [_manifest(document, source, namespace) for path in paths for source, document in documents(path)]


def documents(path: str) -> Iterator[tuple[str, object]]:
    """Every document of a file, a folder's files or standard input (`-`), with the name of where it stands.

    Raises:
        Invalid: a file can't be read, or is no YAML.
    """
    for source, text in _texts(path):
        if dump.begins(text):
            yield from _lines(source, text)
            continue
        try:
            for document in yaml.load_all(text, Loader=_Loader):
                yield from _items(source, document)
        except yaml.YAMLError as error:
            raise Invalid(source, f"is no YAML: {_one_line(error)}") from None
        except RecursionError:
            raise Invalid(source, "is no YAML: too deep") from None
        except (ValueError, TypeError, OverflowError) as error:  # a value that isn't what its tag says
            raise Invalid(source, f"is no YAML: {error}") from None


def _texts(path: str) -> Iterator[tuple[str, str]]:
    if not path:
        raise Invalid("--filename", "is empty")
    place = Path(path)
    try:
        if path == "-":
            yield "standard input", sys.stdin.buffer.read().decode()
            return
        files = sorted(one for one in place.iterdir() if one.suffix in _SUFFIXES) if place.is_dir() else [place]
        if not files:
            raise Invalid(path, f"has no file that ends in {', '.join(_SUFFIXES)}")
        for file in files:
            yield str(file), file.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(path, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise Invalid(path, f"is no text: {error.reason}") from None


def _lines(source: str, text: str) -> Iterator[tuple[str, object]]:
    """The documents of an export; reading its lines as YAML would take twenty times as long."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield f"{source}: line {number}", msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise Invalid(f"{source}: line {number}", f"is no JSON: {error}") from None


def _items(source: str, document: object) -> Iterator[tuple[str, object]]:
    if document is None:
        return
    if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield source, item
        return
    yield source, document


def _manifest(document: object, source: str, namespace: str) -> Manifest:
    try:
        resource = _with_namespace(codec.decode(document), namespace or DEFAULT_NAMESPACE)
        resource.check()
        codec.encode(resource)  # a store keeps no more than so many bytes of one
        _check_known(resource)
    except Invalid as error:
        raise Invalid(f"{source}: {name_of(document)}", str(error)) from None
    return Manifest(resource, source)


def _with_namespace(resource: Resource, namespace: str) -> Resource:
    if not resource.KIND.namespaced or resource.namespace:
        return resource
    metadata = msgspec.structs.replace(resource.metadata, namespace=namespace)
    return msgspec.structs.replace(resource, metadata=metadata)


def _check_known(resource: Resource) -> None:
    """A field that says nothing to us would be kept and not done: a policy would be enforced without it."""
    if isinstance(resource, NetworkPolicy) or resource.KIND.group == _OWN_GROUP:
        unknown = [path for path in codec.unknown_paths(resource) if path.startswith("spec")]
        if unknown:
            raise Invalid(unknown[0], f"is no field of {_an(resource.KIND.name)}")


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIO" else f"a {noun}"


def name_of(document: object) -> str:
    """What a person calls the object, as far as it says."""
    if not isinstance(document, dict):
        return "a document that is no object"
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{document.get('kind') or 'an object without kind'} {name or 'without a name'}"[:120]


def _one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
