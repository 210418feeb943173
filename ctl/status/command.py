"""status: how the cluster is, for any datastore; exit 1 when something is wrong."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import click

from agent.host import manifest
from agent.host.errors import HostError
from ctl import output
from ctl.failures import TIMED_OUT, UNREACHABLE, Failure
from ctl.installation import namespace_option
from ctl.location import Choice, Location, cluster_options
from ctl.status import printed
from ctl.status.looking import look
from ctl.status.remarks import Remark, remarks
from ctl.status.seen import Seen
from datastore.errors import Unavailable

_WRONG = 1
_AGAIN_S = 1.0
_WAIT_S = "120"

Look = Callable[[], Coroutine[Any, Any, Seen]]


@click.command(epilog="Example: tortiectl status --wait --datastore kubernetes:")
@click.option(
    "--wait",
    "wait_s",
    is_flag=False,
    flag_value=_WAIT_S,
    type=click.FloatRange(0, 86400),
    metavar="[SECONDS]",
    help=f"Look again until all is well, so long at most ({_WAIT_S}); exit 5 when it isn't by then.",
)
@output.form_option
@namespace_option
@cluster_options
def status(wait_s: float | None, form: str, namespace: str, cluster: Choice) -> int:
    """Show nodes, pools, policies, the controller, and what is wrong with the command to run next.

    Agents are asked where they can be: on Kubernetes by their pods, in a lab and on this host by their sockets.
    """
    location = _located(cluster)

    async def once() -> Seen:
        return await look(location, namespace, cluster.state)

    seen, said = asyncio.run(_waited(once, wait_s or 0))
    if form == "json":
        output.as_json(printed.document(seen, said))
    else:
        printed.show(seen, said)
    if not any(one.wrong for one in said):
        return 0
    return _WRONG if wait_s is None else TIMED_OUT


async def _waited(once: Look, wait_s: float) -> tuple[Seen, Sequence[Remark]]:
    """Look, and again until all is well or the time is over.

    Raises:
        StoreError, Failure: nothing can be seen, at the last look.
    """
    limit, told = time.monotonic() + wait_s, ""
    while True:
        late = time.monotonic() + _AGAIN_S > limit
        try:
            seen = await once()
            said = remarks(seen)
            wrong = [one for one in said if one.wrong]
            if not wrong or late:
                return seen, said
            now = f"{len(wrong)} wrong: {wrong[0].what}"
        except (Unavailable, Failure) as error:
            if late or (isinstance(error, Failure) and error.status != UNREACHABLE):
                raise
            now = str(error)
        if now != told:
            click.echo(f"waiting, {now}", err=True)
            told = now
        await asyncio.sleep(_AGAIN_S)


def _located(cluster: Choice) -> Location:
    """The cluster that is named, else the lab, else the one that `host init` made this host a node of."""
    if cluster.datastore is None and cluster.state is None and cluster.folder().read() is None:
        try:
            made = manifest.read()
        except (HostError, OSError):
            made = None
        if made is not None:
            return replace(cluster, datastore=made.wishes.datastore).locate()
    return cluster.locate()
