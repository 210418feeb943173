"""tortie-agent: reads its options, opens the datastore, runs the agent until it is told to stop."""

import asyncio
import dataclasses
import logging
import resource
import signal
import sys
from typing import TYPE_CHECKING

from agent.options import Options, parse

if TYPE_CHECKING:
    from datastore.store import Store

log = logging.getLogger("agent")

_SWITCH_S = 0.0005
"""How long a thread that wants the interpreter lock waits before it is given it. Python's own 5 ms is more than an ADD
takes, and an ADD has three threads: the loop's, the links', the database's."""


def main() -> None:
    """The console script."""
    options = parse(sys.argv[1:])
    sys.setswitchinterval(_SWITCH_S)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 1024, the usual soft limit, is for select(2)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(asyncio.run(_run(options)))


async def _run(options: Options) -> int:
    # What takes time to import comes after the options are known to be right.
    from datastore.errors import Invalid, StoreError, UnsupportedDatastore
    from datastore.transfer import follow

    configured = options.datastore
    while True:
        try:
            store, url = await follow.open_followed(configured, options.state)
        except (UnsupportedDatastore, Invalid) as error:
            log.error("--datastore: %s", error)
            return 2
        except StoreError as error:
            log.error("%s", error)
            return 1
        try:
            return await _serve(dataclasses.replace(options, datastore=url), store)
        except follow.Left as left:
            log.info("%s: starting anew there", left)
            follow.remember(options.state, configured, left.to)
        finally:
            await store.close()


async def _serve(options: Options, store: "Store") -> int:
    """Run the agent on a store until it is told to stop.

    Raises:
        Left: the store was left for another.
    """
    from agent.agent import Agent
    from datastore.errors import StoreError
    from datastore.transfer.follow import Left
    from ipam.identity import NameTaken
    from kernel.errors import KernelError

    task = asyncio.ensure_future(Agent(options, store).run(lambda: log.info("ready: serving %s", options.socket)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped; pods and rules stay as they are")
        return 0
    except BaseExceptionGroup as failures:
        told, untold = failures.split((NameTaken, KernelError, StoreError, OSError, Left))
        if untold is not None:
            raise untold from None
        for failure in told.exceptions if told is not None else ():
            if isinstance(failure, Left):
                raise failure from None
            log.error("%s", failure)
        return 1
    return 0
