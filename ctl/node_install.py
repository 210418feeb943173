"""node install: the plugin's programs put where the runtime looks for them; an init container runs this on each node.

Each is written beside its place and renamed into it, so that a runtime that executes one meanwhile has the old one or
the new one whole, and a program that runs goes on. The conflist is the agent's to write, once it serves.
"""

from pathlib import Path

import click

from agent import files
from agent.host.relay import PROGRAMS, built
from ctl.failures import Failure
from ctl.host_options import absolute

IMAGE_FOLDER = Path("/usr/libexec/tortie")
"""Where the image and packages have the programs."""
_MODE = 0o755
_OTHERS = {
    "loopback": "runtimes execute for every pod (but a containerd with use_internal_loopback)",
    "portmap": "the conflist names, for pods' hostPort",
}
"""Reference plugins that pods can't start without, and why. They aren't ours, nor in the image: 4 MB each, and most
ways to install Kubernetes bring them along, patched by whoever maintains them."""


@click.command(epilog="Example: tortiectl node install --bin-dir /opt/cni/bin")
@click.option("--bin-dir", required=True, type=click.Path(path_type=Path), help="The runtime's folder of plugins.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help=f"Folder of the programs (default: {IMAGE_FOLDER}, else what `make relay` built).",
)
def install(bin_dir: Path, source: Path | None) -> None:
    """Copy the plugin's programs into a folder; what is there and the same stays."""
    folder = absolute(bin_dir)
    contents = {name: _content(_source(source) / name) for name in PROGRAMS}
    if not folder.is_dir():
        raise Failure(
            f"there is no folder {folder}", 1, "give --bin-dir the folder in which the runtime has its plugins"
        )
    for name, content in contents.items():
        path = folder / name
        if files.is_so(path, content, _MODE):
            click.echo(f"{path}: is so already")
            continue
        try:
            files.put(path, content, _MODE)
        except OSError as error:
            raise Failure(f"{path} can't be written: {error.strerror}", 1, "is the folder writable here?") from error
        click.echo(f"{path}: installed")
    _warn(folder)


def _warn(folder: Path) -> None:
    """Say which plugins of others are missing: pods would say it one by one, long after the first install."""
    for name, why in _OTHERS.items():
        if not (folder / name).is_file():
            click.echo(
                f"warning: {folder} has no {name}, which {why}: install the package kubernetes-cni (or, of Debian and "
                f"Ubuntu, containernetworking-plugins, and: cp /usr/lib/cni/{name} /opt/cni/bin/)",
                err=True,
            )


def _source(given: Path | None) -> Path:
    if given is not None:
        return absolute(given)
    program = None if IMAGE_FOLDER.is_dir() else built()
    return program.parent if program is not None else IMAGE_FOLDER


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failure(f"{path} can't be read: {error.strerror}", 1, "give --from the folder of the programs") from error
    if not content:
        raise Failure(f"{path} is empty", 1, "give --from the folder of the programs")
    return content
