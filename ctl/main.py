"""tortiectl: the commands there are, each imported when it is run.

Importing everything would cost half a second of SQLAlchemy, gRPC and YAML for a `--help`; here are only the names.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any, cast

import click

_COMMANDS = {
    "apply": ("ctl.apply:apply", "Create or update objects from files."),
    "delete": ("ctl.apply:delete", "Delete objects, by file or by kind and name."),
    "get": ("ctl.get:get", "Show objects."),
    "status": ("ctl.status.command:status", "How the cluster is, and what to do about what is wrong."),
    "sysdump": ("ctl.sysdump.command:sysdump", "An archive for whoever helps, without secrets."),
    "demo": ("ctl.demo:demo", "A three-node cluster, pods, policies and probes, and away again."),
}
_GROUPS: Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]] = {
    "host": (
        "This host as a node.",
        {
            "init": ("ctl.host_init:init", "Make this host a node: pools, plugin, agent, conflist."),
            "remove": ("ctl.host_remove:remove", "Make this host as it was before init."),
            "check": ("ctl.host_check:check", "What no pod needs: links, routes, set members, files, addresses."),
        },
    ),
    "node": (
        "What a node of Kubernetes has of ours.",
        {
            "install": ("ctl.node_install:install", "Copy the plugin's programs into the runtime's folder."),
            "cleanup": ("ctl.node_cleanup:cleanup_command", "Remove everything of ours from this node."),
        },
    ),
    "connectivity": (
        "Whether pods reach each other.",
        {
            "test": ("ctl.connectivity.command:test", "Try it with pods on every node, and remove them again."),
            "serve": ("ctl.connectivity.inside:serve", "What the test's servers run."),
            "probe": ("ctl.connectivity.inside:probe", "What the test's clients run."),
        },
    ),
    "lab": (
        "A cluster on this machine: nodes are network namespaces.",
        {
            "up": ("ctl.lab_commands:up", "Make the lab: nodes, datastore, agents."),
            "down": ("ctl.lab_commands:down", "End the lab; nothing of it remains."),
            "status": ("ctl.lab_commands:status", "How the lab's nodes are."),
            "restart": ("ctl.lab_commands:restart", "Start a node's agent again."),
            "run": ("ctl.lab_commands:run", "Make a pod that listens on its ports."),
            "rm": ("ctl.lab_commands:rm", "Remove a pod."),
            "exec": ("ctl.lab_commands:execute", "Run a command in a pod."),
            "probe": ("ctl.lab_commands:probe", "Try a connection with real packets."),
        },
    ),
    "policy": (
        "What policies allow, and why.",
        {
            "explain": ("ctl.policy_commands:explain", "The verdict of a connection in this cluster, to the clause."),
            "evaluate": ("ctl.policy_commands:evaluate", "Verdicts offline, from files of Kubernetes YAML."),
        },
    ),
    "datastore": (
        "The datastore as a whole.",
        {
            "export": ("ctl.datastore_commands:export", "Write out every object."),
            "import": ("ctl.datastore_commands:import_", "Put in what was written out."),
            "check": ("ctl.datastore_commands:check", "Whether everything can be read, found, written and watched."),
            "migrate": ("ctl.datastore_migrate:migrate", "Move to another datastore while pods run."),
        },
    ),
    "ipam": (
        "Who has which address.",
        {
            "list": ("ctl.ipam_commands:list_", "Addresses and their owners."),
            "assign": ("ctl.ipam_commands:assign", "Take an address by hand."),
            "release": ("ctl.ipam_release:release", "Free an address by hand."),
            "show": ("ctl.ipam_show:show", "How full pools and blocks are; who has an address."),
            "check": ("ctl.ipam_check:check", "What is wrong with who has which address."),
            "history": ("ctl.ipam_history:history", "Who had an address, and when."),
            "gc": ("ctl.ipam_gc:gc", "Take back what departed nodes left."),
            "split": ("ctl.ipam_split:split", "Split a pool into equal ones."),
            "simulate": ("ctl.ipam_simulate:simulate_command", "Try whether pools are large enough."),
        },
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run; their help line is known before."""

    def __init__(self, name: str, help_text: str, commands: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(name, help=help_text, no_args_is_help=True)
        self._lazy = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name."""
        return sorted([*self._lazy, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The names with their help, importing nothing."""
        rows = [(name, self._line(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _line(self, ctx: click.Context, name: str) -> str:
        if name in self._lazy:
            return self._lazy[name][1]
        command = super().get_command(ctx, name)
        return command.get_short_help_str(100) if command is not None else ""


def root() -> click.Group:
    """The whole command."""
    group = LazyGroup("tortiectl", "See and change a tortie pod network.", _COMMANDS)
    for name, (help_text, commands) in _GROUPS.items():
        group.add_command(LazyGroup(name, help_text, commands))
    return group


def main(arguments: list[str] | None = None) -> None:
    """The console script."""
    from ctl.failures import told

    sys.exit(told(lambda: run(arguments)))


def run(arguments: list[str] | None, program: str = "tortiectl") -> int:
    """Run one command; gives its exit status, and raises what `failures` tells."""
    result: Any = root().main(args=arguments, prog_name=program, standalone_mode=False)
    return result if isinstance(result, int) else 0
