"""connectivity test: pods on every node try each other; exit 1 if something isn't as it must be."""

import asyncio
import signal
from pathlib import Path

import click

from ctl import output
from ctl.connectivity import report
from ctl.connectivity.run import PREFIX, Run, Settings
from ctl.failures import INTERRUPTED, UNREACHABLE, Failure
from ctl.installation import NodeSeen, condition, daemonset, namespace_option
from ctl.location import Choice, cluster_options
from datastore.kubernetes.address import KubernetesAddress
from datastore.kubernetes.requests import Requests, requests
from datastore.resources import names
from datastore.urls import parse

_NODES = 10
_FAILED = 1
_FORMS = ("table", "json", "junit")
_PREFIX_MAX = 50


@click.command(epilog="Example: kubectl tortie connectivity test --junit connectivity.xml")
@click.option("--image", default="", help="With tortiectl in it (default: the agents' own).")
@click.option("-o", "--output", "form", type=click.Choice(_FORMS), default="table", help="What is printed.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit's XML into this file, besides.")
@click.option("--namespace-prefix", "prefix", default=PREFIX, show_default=True, help="Of the test's namespace.")
@click.option(
    "--nodes", "most", type=click.IntRange(1, 100), default=_NODES, show_default=True, help="At most so many."
)
@click.option("--timeout", "limit_s", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="For pods.")
@namespace_option
@cluster_options
def test(
    image: str, form: str, junit: Path | None, prefix: str, most: int, limit_s: float, namespace: str, cluster: Choice
) -> int:
    """Try pod to pod, pod to Service, node to pod, a default deny and an exception to it; needs no internet.

    Everything is in one namespace, which is deleted at the end, after an interruption too. In a lab there is
    `tortiectl lab probe`.
    """
    names.check_label_name(prefix[:_PREFIX_MAX], "--namespace-prefix")
    if len(prefix) > _PREFIX_MAX:
        raise click.BadParameter(f"is longer than {_PREFIX_MAX} characters", param_hint="--namespace-prefix")
    address = _address(cluster)
    try:
        cases = asyncio.run(_tried(address, Settings(image, (), prefix, limit_s), namespace, most))
    except asyncio.CancelledError:
        return INTERRUPTED
    if junit is not None:
        _write(junit, report.junit(cases))
    match form:
        case "json":
            output.as_json(report.document(cases))
        case "junit":
            click.echo(report.junit(cases))
        case _:
            report.show(cases)
    return _FAILED if report.count(cases, report.FAILED) else 0


def _address(cluster: Choice) -> KubernetesAddress:
    address = parse(cluster.locate().url)
    if not isinstance(address, KubernetesAddress):
        hint = "in a lab: tortiectl lab probe NS/POD NS/POD PORT; on Kubernetes: --datastore kubernetes:"
        raise Failure(f"{address.description} is no Kubernetes, where this test makes its pods", hint=hint)
    return address


async def _tried(address: KubernetesAddress, settings: Settings, namespace: str, most: int) -> list[report.Case]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    async with requests(address) as api:
        image = settings.image or await _image(api, namespace)
        nodes = await _nodes(api)
        if len(nodes) > most:
            click.echo(f"{most} of {len(nodes)} nodes are tried: --nodes", err=True)
        chosen = Settings(image, tuple(nodes[:most]), settings.prefix, settings.limit_s)
        run = Run(api, chosen, lambda line: click.echo(line, err=True))
        await run.whole()
    return run.cases


async def _image(api: Requests, namespace: str) -> str:
    found = await daemonset(api, namespace)
    containers = found.spec.template.spec.containers if found is not None else ()
    if not containers:
        raise Failure(f"there is no DaemonSet tortie-agent in {namespace} to take the image of", hint="give --image")
    return containers[0].image


async def _nodes(api: Requests) -> list[str]:
    """Those that are Ready, by name; the others are told.

    Raises:
        Failure: none is.
    """
    found = {
        one.metadata.name: condition(one.status.conditions, "Ready")
        for one in await api.items("/api/v1/nodes", NodeSeen)
    }
    for name, ready in sorted(found.items()):
        if ready.status != "True":
            click.echo(f"node {name} is left out, it isn't Ready: {ready.message}", err=True)
    nodes = sorted(name for name, ready in found.items() if ready.status == "True")
    if not nodes:
        raise Failure("no node is Ready", UNREACHABLE, "tortiectl status says why")
    return nodes


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise Failure(f"{path} can't be written: {error.strerror}", 1) from error
