"""policy: what policies allow, and why; on a cluster or on files."""

import asyncio
import json
from collections.abc import Sequence

import click
import msgspec

from ctl import manifests
from ctl.failures import Failure
from ctl.lab_commands import named
from ctl.location import Choice, Location, cluster_options
from datastore.errors import Invalid
from datastore.resources.kubernetes import KubernetesNode, Namespace, Pod
from datastore.resources.names import parse_address
from datastore.resources.networkpolicy import NetworkPolicy, check_port
from datastore.resources.node import Node
from datastore.resources.value import Resource
from datastore.resources.workloadendpoint import WorkloadEndpoint
from policy.evaluate import NoVerdict, pairs
from policy.evaluate import evaluate as judge
from policy.model import Protocol
from policy.snapshot import Cluster, of_resources
from policy.verdict import Side, Verdict

_READ: tuple[type[Resource], ...] = (Namespace, NetworkPolicy, WorkloadEndpoint, Pod, Node, KubernetesNode)


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question of `policy evaluate`."""

    source: str = msgspec.field(name="from")
    destination: str = msgspec.field(name="to")
    port: int = msgspec.field()
    protocol: str = "TCP"


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--port", required=True, metavar="PORT[/PROTOCOL]", help="Such as 5432 or 53/UDP.")
@cluster_options
def explain(source: str, destination: str, port: str, cluster: Choice) -> int:
    """Whether pod SOURCE (NS/NAME) may open PORT of DESTINATION (NS/NAME or an IP), and what decides; exit 0 or 1.

    Where IPv4 and IPv6 differ, both are told, and exit 1 says that one is denied.
    """
    from lab.probing import Target

    target = Target.parse(port)
    named(source)
    known = asyncio.run(snapshot(cluster.locate()))
    verdicts = _judged(known, source, destination, target.port, Protocol(target.protocol))
    told = [_lines(known, source, destination, verdict) for verdict in verdicts]
    alike = len({tuple(lines[1:]) for lines in told}) == 1
    for lines in told[:1] if alike else told:
        click.echo("\n".join(lines))
    return 0 if all(verdict.allowed for verdict in verdicts) else 1


@click.command()
@click.option("--cluster", "cluster_file", required=True, metavar="FILE", help="Namespaces, Nodes and Pods.")
@click.option("--policies", required=True, metavar="FILE", help="NetworkPolicies.")
@click.option("--probes", required=True, metavar="FILE", help='JSON: [{"from", "to", "port", "protocol"}].')
def evaluate(cluster_file: str, policies: str, probes: str) -> None:
    """Verdicts offline: one JSON line for each probe, in order."""
    given = [*manifests.read([cluster_file]), *manifests.read([policies])]
    try:
        known = of_resources([one.resource for one in given])
    except Invalid as error:
        source = next((one.source for one in given if str(error).startswith(one.resource.key)), cluster_file)
        raise Invalid(source, str(error)) from None
    questions = _probes(probes)
    answers = [_answered(known, probe, f"{probes}: [{number}]") for number, probe in enumerate(questions)]
    for verdict in answers:
        click.echo(json.dumps({"verdict": "allow" if verdict.allowed else "deny", "reason": verdict.reason}))


async def snapshot(location: Location) -> Cluster:
    """The cluster as its store has it now."""
    async with location.store() as store:
        return of_resources([one for kind in _READ for one in (await store.list(kind)).items])


def _probes(path: str) -> Sequence[Probe]:
    read = [document for _, document in manifests.documents(path)]
    listed = read[0] if len(read) == 1 else read
    try:
        return msgspec.convert(listed, tuple[Probe, ...])
    except msgspec.ValidationError as error:
        raise Invalid(path, f"is no list of probes: {error}") from None


def _answered(known: Cluster, probe: Probe, where: str) -> Verdict:
    try:
        check_port(probe.port, "port")
        protocol = Protocol(probe.protocol)
        source, destination = (text.removeprefix("ip:") for text in (probe.source, probe.destination))
        return judge(known.snapshot, known.end(source), known.end(destination), probe.port, protocol)
    except (Invalid, NoVerdict, ValueError) as error:
        raise Invalid(where, str(error)) from None


def _judged(known: Cluster, source: str, destination: str, port: int, protocol: Protocol) -> list[Verdict]:
    """The verdict of each family that both ends have."""
    try:
        if "/" not in destination:
            parse_address(destination, "DESTINATION")
        ends = known.end(source), known.end(destination)
        return [judge(known.snapshot, *ends, port, protocol, pair=pair) for pair in pairs(known.snapshot, *ends)]
    except (NoVerdict, ValueError) as error:
        raise Failure(str(error), hint="list pods: tortiectl get pods -A") from None


def _lines(known: Cluster, source: str, destination: str, verdict: Verdict) -> list[str]:
    """The verdict, each direction, and where it is denied the closest rule with what fails in it."""
    word = "ALLOWED" if verdict.allowed else "DENIED"
    ends = [
        _end(known, text, party.address)
        for text, party in ((source, verdict.source), (destination, verdict.destination))
    ]
    lines = [f"{word}  {ends[0]} -> {ends[1]} {verdict.protocol.value} {verdict.port}"]
    if verdict.special is not None:
        return [*lines, f"  {verdict.special.value}"]
    for side in (verdict.egress, verdict.ingress):
        lines.append(f"  {side.direction.value:<8} {'ALLOWED' if side.allowed else 'DENIED':<8} {side.reason}")
        lines += _misses(side)
    return lines


def _misses(side: Side) -> list[str]:
    if side.allowed:
        return []
    lines = []
    for number, miss in enumerate(side.misses):
        clauses = "; ".join(str(clause) for clause in miss.clauses)
        lines.append(f"             {miss.rule}: {clauses}{'   <- closest rule' if number == 0 else ''}")
    return lines


def _end(known: Cluster, text: str, address: object) -> str:
    endpoint = next((one for key, one in known.snapshot.endpoints.items() if key == text), None)
    where = f", {endpoint.node}" if endpoint is not None and endpoint.node else ""
    return text if endpoint is None and text == str(address) else f"{text} ({address}{where})"
