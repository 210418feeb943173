"""lab: a cluster on this machine, its pods, and probes between them."""

import math
import sys
from collections.abc import Sequence

import click

from ctl import output
from ctl.failures import BAD_INPUT, Failure
from ctl.location import Choice, cluster_options
from datastore.errors import Invalid
from lab import agents, controller, pods, probing, topology
from lab.state import Folder

_NOT_READY = 1
_CONTROLLER = "controller"
_WAIT_LEAST_S, _WAIT_MOST_S = 0.1, 60.0


@click.command()
@click.option("--nodes", default=3, show_default=True, help="How many.")
@click.option("--reach", multiple=True, metavar="HOST:PORT", help="A server of this machine that nodes are to reach.")
@cluster_options
def up(nodes: int, reach: Sequence[str], cluster: Choice) -> None:
    """Make the lab: nodes, datastore, agents, controller; returns when every node serves.

    With --datastore it isn't a file of the lab's own. Servers that the address names on this machine's loopback, or by
    an IP address, are reached by the nodes under that same address.
    """
    folder = cluster.folder()
    datastore = cluster.datastore or ""
    state = topology.up(folder, nodes, datastore if datastore != folder.own_datastore else "", reach)
    click.echo(f"{len(state.nodes)} nodes at {folder.path}, {'rootless' if state.rootless else 'root'}", err=True)
    for node in state.nodes:
        click.echo(f"{node.name} {' '.join(node.addresses)}")


@click.command()
@cluster_options
def down(cluster: Choice) -> None:
    """End the lab; nothing of it remains."""
    folder = cluster.folder()
    ended = topology.down(folder)
    if not ended:
        click.echo(f"no lab at {folder.path}", err=True)
    for one in ended:
        click.echo(f"ended {one}")


@click.command()
@cluster_options
def status(cluster: Choice) -> int:
    """How the lab's nodes and its controller are; exit 1 if one isn't ready."""
    folder = cluster.folder()
    state = folder.running()
    rows, ready = [], True
    for node in state.nodes:
        said = agents.status(folder, node.name)
        alive = node.agent is not None and node.agent.process.alive
        word = "ready" if said and said.get("ready") else "starting" if alive else "agent not running"
        if not node.keeper.process.alive:
            word = "namespaces not kept"
        ready = ready and word == "ready"
        said = said or {}
        cells = [said.get(key, "-") for key in ("pods", "owed", "repairs", "iptables")]
        rows.append([node.name, word, node.addresses[0], *cells, ",".join(said.get("blocks", [])) or "-"])
    output.table(["NODE", "STATUS", "ADDRESS", "PODS", "OWED", "REPAIRS", "IPTABLES", "BLOCKS"], rows)
    word, well = _controller(folder)
    click.echo(f"controller {word}")
    return 0 if ready and well else _NOT_READY


def _controller(folder: Folder) -> tuple[str, bool]:
    """How the controller is, and whether that is well."""
    said = controller.status(folder)
    if said is None:
        return "not running", False
    if said.get("failures"):
        return f"hindered: {said['failures'][0]}", False
    if not said.get("leads"):
        return f"stands by: {said.get('leader') or 'nobody'} leads", bool(said.get("leader"))
    departed = ", ".join(said.get("departed", []))
    return "leads" + (f"; departed nodes that have something left: {departed}" if departed else ""), True


@click.command()
@click.argument("node")
@cluster_options
def restart(node: str, cluster: Choice) -> None:
    """Start the agent of NODE again, or "controller", ended first if it still runs; returns when it serves."""
    folder = cluster.folder()
    if node == _CONTROLLER:
        controller.wait(folder, controller.start(folder, folder.running()))
    else:
        agents.start(folder, folder.running(), node)
    click.echo(f"{node} serves")


@click.command()
@click.argument("pod")
@click.option("--node", default="", help="Which node (default: the one with the fewest pods).")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--port", "ports", multiple=True, metavar="[NAME:]PORT[/PROTOCOL]", help="A port to listen on.")
@click.option(
    "--annotation", "annotations", multiple=True, metavar="KEY=VALUE", help="Such as cni.tortie.dev/ipv4pools=[...]."
)
@cluster_options
def run(
    pod: str, node: str, labels: Sequence[str], ports: Sequence[str], annotations: Sequence[str], cluster: Choice
) -> None:
    """Make a pod NS/NAME, by executing the plugin; returns when every running agent knows it."""
    namespace, name = named(pod)
    wanted = pods.NewPod(
        namespace,
        name,
        node,
        dict(_label(text) for text in labels),
        tuple(pods.Port.parse(text) for text in ports),
        dict(_label(text, "--annotation") for text in annotations),
    )
    wanted.check()
    folder = cluster.folder()
    made = pods.run(folder, folder.running(), wanted)
    click.echo(f"{pod} {' '.join(probing.addresses(folder, made))} on {made.node}")


@click.command()
@click.argument("pod")
@cluster_options
def rm(pod: str, cluster: Choice) -> None:
    """Remove a pod NS/NAME; returns when every running agent has forgotten it."""
    namespace, name = named(pod)
    folder = cluster.folder()
    pods.remove(folder, folder.running(), namespace, name)
    click.echo(f"{pod} removed")


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("pod")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@cluster_options
def execute(pod: str, command: Sequence[str], cluster: Choice) -> int:
    """Run COMMAND in a pod's network namespace: exec NS/NAME -- CMD..."""
    namespace, name = named(pod)
    folder = cluster.folder()
    state = folder.running()
    sys.stdout.flush()
    return pods.execute(state, pods.known(folder, namespace, name), command)


@click.command()
@click.argument("source")
@click.argument("destination")
@click.argument("port")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(_WAIT_LEAST_S, _WAIT_MOST_S),
    default=probing.WAIT_S,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@cluster_options
def probe(source: str, destination: str, port: str, wait_s: float, cluster: Choice) -> int:
    """Try PORT[/UDP|/SCTP] from pod NS/NAME to pod NS/NAME or an IP, with real packets; exit 0 allowed, 1 denied."""
    if not math.isfinite(wait_s):
        raise click.BadParameter(f"{wait_s} is no time", param_hint="--wait")
    target, here = probing.Target.parse(port), named(source)
    there = named(destination) if "/" in destination else _address(destination)
    folder = cluster.folder()
    outcomes = probing.probe(folder, folder.running(), here, there, target, wait_s)
    for outcome in outcomes:
        words = {"open": "allowed", "closed": "allowed, but nobody listens", "silent": "denied: no answer"}
        verdict = words[outcome.heard]
        click.echo(f"{source} -> {destination} ({outcome.address}) {target.protocol}/{target.port} {verdict}")
    return 0 if all(outcome.allowed for outcome in outcomes) else 1


def named(text: str) -> tuple[str, str]:
    """Namespace and name of `NS/NAME`.

    Raises:
        Failure: it is none.
    """
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise Failure(f"{text[:100]!r} is no pod; write NAMESPACE/NAME", BAD_INPUT)
    return namespace, name


def _label(text: str, option: str = "--label") -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise Invalid(option, f"{text[:100]!r} is no {option.removeprefix('--')}; write KEY=VALUE")
    return key, value


def _address(text: str) -> str:
    from datastore.resources.names import parse_address

    address = parse_address(text, "DESTINATION")
    if address.is_multicast or address.is_unspecified:
        raise Invalid("DESTINATION", f"{text!r} is nobody's own address")
    return str(address)
