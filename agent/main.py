"""tortie-agent: reads its options, is alone with its state, opens the datastore, runs the agent until told to stop."""

import asyncio
import dataclasses
import logging
import os
import resource
import signal
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from agent.alone import NotAlone, alone
from agent.options import Options, parse

if TYPE_CHECKING:
    from agent.surroundings import Surroundings
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
    sys.exit(asyncio.run(_run_alone(options)))


async def _run_alone(options: Options) -> int:
    try:
        lock = await alone(options.state)
    except NotAlone as error:
        log.error("%s", error)
        return 1
    except OSError as error:  # a full disk, above all: pods that end need an agent then, too
        log.warning("whether another agent serves this node can't be known: %s", error)
        return await _run(options)
    try:
        return await _run(options)
    finally:
        os.close(lock)


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
    from agent.events import name_taken
    from agent.surroundings import Replaced, surroundings_of
    from datastore.errors import Invalid, StoreError
    from datastore.transfer.follow import Left
    from ipam.identity import NameTaken
    from kernel.errors import KernelError

    try:
        surroundings = surroundings_of(options, store)
    except Invalid as error:
        log.error("%s", error)
        return 2
    task = asyncio.ensure_future(_start(options, store, surroundings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped; pods and rules stay as they are")
        return 0
    except BaseExceptionGroup as failures:
        told, untold = failures.split((NameTaken, KernelError, StoreError, OSError, Left, Replaced))
        if untold is not None:
            raise untold from None
        for failure in told.exceptions if told is not None else ():
            if isinstance(failure, Left):
                raise failure from None
            log.error("%s", failure)
            if isinstance(failure, NameTaken):
                surroundings.events.tell(name_taken(options.node, str(failure)))
                await surroundings.events.told()
        return 1
    except OSError as error:
        log.error("%s", error)
        return 1
    finally:
        await surroundings.close()
    return 0


async def _start(options: Options, store: "Store", surroundings: "Surroundings") -> None:
    """Answer probes, find out what isn't given, and run the agent.

    Raises:
        OSError: --http can't be listened at.
        BaseExceptionGroup: what ended the agent.
    """
    from agent.agent import Agent
    from agent.telling import Telling
    from datastore.metered import MeteredStore

    telling = Telling(options, surroundings.events)
    if telling.metrics is not None:
        store = MeteredStore(store, telling.metrics.asked)
    async with AsyncExitStack() as stack:
        await telling.listen(stack)
        completed = await surroundings.completed(options)
        agent = Agent(completed, store, surroundings, telling)
        await agent.run(lambda: log.info("ready: serving %s", options.socket))
