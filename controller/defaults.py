"""What a new cluster begins with: the objects of a file, made once.

A cluster is new while it has no ClusterConfiguration. That is made last, so that what was cut short is done again; and
what people change or delete later stays as they have it. `kubectl apply` can't do this: it refuses objects of kinds
that the same command is about to define, and would put back what people changed.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from datastore import codec
from datastore.errors import AlreadyExists, Invalid, NotFound
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration
from datastore.resources.value import Metadata, Resource
from datastore.store import Store

log = logging.getLogger(__name__)


def read(path: Path) -> tuple[Resource, ...]:
    """The objects of a YAML file, judged, the ClusterConfiguration last: one without settings where it has none.

    Raises:
        Invalid: names the file and the object.
    """
    try:
        documents = list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))  # a safe loader in C
    except OSError as error:
        raise Invalid(str(path), error.strerror or str(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(str(path), f"is no YAML: {' '.join(str(error).split())}") from None
    found = list(_judged(path, documents))
    if not any(isinstance(one, ClusterConfiguration) for one in found):
        found.append(ClusterConfiguration(metadata=Metadata(name=NAME)))
    return tuple(sorted(found, key=lambda one: isinstance(one, ClusterConfiguration)))


async def make(store: Store, defaults: Sequence[Resource]) -> list[str]:
    """Make them if the cluster is new; gives what was made, for people.

    Raises:
        StoreError: not all is made; do it again.
    """
    if not defaults:
        return []
    try:
        await store.get(ClusterConfiguration, NAME)
        return []
    except NotFound:
        pass
    made = []
    for one in defaults:
        try:
            await store.create(one)
        except AlreadyExists:
            continue
        made.append(f"created {one.KIND.name} {one.name}: the cluster is new")
    return made


def _judged(path: Path, documents: Sequence[object]) -> Iterator[Resource]:
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        try:
            resource = codec.decode(document)
            resource.check()
            unknown = [field for field in codec.unknown_paths(resource) if field.startswith("spec")]
        except Invalid as error:
            raise Invalid(f"{path}: document {number}", str(error)) from None
        if unknown:
            raise Invalid(f"{path}: document {number}", f"{unknown[0]} is no field of {resource.KIND.name}")
        yield resource
