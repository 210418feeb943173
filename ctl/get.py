"""get: objects of a kind, as a table or as they are stored."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import click

from ctl import output
from ctl.failures import Failure
from ctl.location import Choice, Location, cluster_options
from ctl.manifests import DEFAULT_NAMESPACE
from datastore import codec
from datastore.resources import kinds, names
from datastore.resources.ipblock import IPBlock
from datastore.resources.ippool import DEFAULT_BLOCK, IPPool
from datastore.resources.kubernetes import Pod
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint

Column = tuple[str, Callable[[Any], object]]

_COLUMNS: dict[type[Resource], tuple[Column, ...]] = {
    WorkloadEndpoint: (
        ("POD", lambda one: one.spec.pod),
        ("NODE", lambda one: one.spec.node),
        ("ADDRESSES", lambda one: ",".join(one.spec.addresses)),
        ("INTERFACE", lambda one: one.spec.host_interface),
        ("LABELS", lambda one: _labels(one)),
    ),
    IPPool: (
        ("NAME", lambda one: one.name),
        ("CIDR", lambda one: one.spec.cidr),
        ("BLOCK", lambda one: f"/{one.spec.block_size or DEFAULT_BLOCK[6 if ':' in one.spec.cidr else 4]}"),
        ("DISABLED", lambda one: str(one.spec.disabled).lower()),
    ),
    IPBlock: (
        ("NAME", lambda one: one.name),
        ("CIDR", lambda one: one.spec.cidr),
        ("POOL", lambda one: one.spec.pool),
        ("NODE", lambda one: one.spec.node),
        ("USED", lambda one: len(one.spec.allocations)),
    ),
    Node: (
        ("NAME", lambda one: one.name),
        ("ADDRESSES", lambda one: ",".join(one.spec.addresses)),
        ("BLOCKS", lambda one: ",".join(one.spec.blocks)),
        ("BORROWED", lambda one: len(one.spec.borrowed)),
    ),
    NetworkPolicy: (
        ("NAME", lambda one: one.name),
        ("POD-SELECTOR", lambda one: _selector(one)),
        ("TYPES", lambda one: ",".join(one.spec.policy_types) or "(default)"),
    ),
}


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("-n", "--namespace", default=DEFAULT_NAMESPACE, show_default=True)
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-o", "--output", "form", type=click.Choice(["table", "json", "yaml", "name"]), default="table")
@cluster_options
def get(
    kind: str,
    name: str | None,
    namespace: str,
    all_namespaces: bool,
    form: str,
    cluster: Choice,
) -> None:
    """Show objects of KIND, or one by NAME; `pods` are a lab's endpoints."""
    cls = kinds.named(kind)
    if not all_namespaces:
        names.check_label_name(namespace, "--namespace")
    location = cluster.locate()
    wanted = None if all_namespaces or not cls.KIND.namespaced else namespace
    found = asyncio.run(_read(location, cls, wanted))
    if name is not None:
        found = [one for one in found if name in (one.name, _name(one))]
        if not found:
            key = f"{cls.KIND.name} {namespace}/{name}" if cls.KIND.namespaced else f"{cls.KIND.name} {name}"
            raise Failure(f"{key} is not in the datastore", 1, f"list them: tortiectl get {kind} -A")
    if form == "table":
        _table(found, with_namespace=wanted is None and cls.KIND.namespaced)
    elif form == "name":
        for one in found:
            click.echo(f"{cls.KIND.plural}/{_name(one) if cls is Pod else one.name}")
    else:
        documents = [_document(one, as_pod=cls is Pod) for one in found]
        output.print_objects(documents, form, alone=name is not None and len(found) == 1)


async def _read(location: Location, kind: type[Resource], namespace: str | None) -> list[Resource]:
    async with location.store() as store:
        listed: list[Resource] = list((await store.list(kind)).items)
        if kind is Pod and not listed:
            listed = list((await store.list(WorkloadEndpoint)).items)
    chosen = [one for one in listed if namespace is None or one.namespace == namespace]
    return sorted(chosen, key=lambda one: (one.namespace, _name(one)))


def _document(resource: Resource, *, as_pod: bool) -> dict[str, Any]:
    """The stored object; a pod besides with what people look for at its top, whatever kind it is stored as."""
    document = codec.document(resource)
    if not as_pod or not isinstance(resource, WorkloadEndpoint):
        return document
    spec = resource.spec
    return {
        "namespace": resource.namespace,
        "name": spec.pod,
        "node": spec.node,
        "addresses": list(spec.addresses),
        "labels": dict(resource.metadata.labels),
        "hostInterface": spec.host_interface,
        "netns": spec.netns,
        **document,
    }


def _table(found: Sequence[Resource], *, with_namespace: bool) -> None:
    columns = _COLUMNS.get(type(found[0]), (("NAME", lambda one: one.name),)) if found else ()
    if with_namespace:
        columns = (("NAMESPACE", lambda one: one.namespace), *columns)
    output.table([heading for heading, _ in columns], [[cell(one) for _, cell in columns] for one in found])


def _name(resource: Resource) -> str:
    """What a person calls it: an endpoint by its pod."""
    return resource.spec.pod if isinstance(resource, WorkloadEndpoint) else resource.name


def _labels(resource: Resource) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(resource.metadata.labels.items())) or "-"


def _selector(policy: NetworkPolicy) -> str:
    from policy.selectors import from_label_selector

    return str(from_label_selector(policy.spec.pod_selector)) or "(every pod)"
