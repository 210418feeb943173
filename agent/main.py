"""tortie-agent: reads its options, opens the datastore, runs the agent until it is told to stop."""

import asyncio
import logging
import resource
import signal
import sys

from agent.options import Options, parse

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
    from agent.agent import Agent
    from datastore.errors import Invalid, StoreError, UnsupportedDatastore
    from datastore.urls import open_store
    from ipam.identity import NameTaken
    from kernel.errors import KernelError

    log = logging.getLogger("agent")
    try:
        store = await open_store(options.datastore)
    except (UnsupportedDatastore, Invalid) as error:
        log.error("--datastore: %s", error)
        return 2
    except StoreError as error:
        log.error("%s", error)
        return 1
    task = asyncio.ensure_future(Agent(options, store).run(lambda: log.info("ready: serving %s", options.socket)))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped; pods and rules stay as they are")
        return 0
    except BaseExceptionGroup as failures:
        told, untold = failures.split((NameTaken, KernelError, StoreError, OSError))
        if untold is not None:
            raise untold from None
        for failure in told.exceptions if told is not None else ():
            log.error("%s", failure)
        return 1
    finally:
        await store.close()
    return 0
