"""tortie-controller: reads its options, opens the datastore, runs the controller until it is told to stop."""

import asyncio
import logging
import signal
import sys

from controller.options import Options, parse


def main() -> None:
    """The console script."""
    options = parse(sys.argv[1:])
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(asyncio.run(_run(options)))


async def _run(options: Options) -> int:
    # What takes time to import comes after the options are known to be right.
    from controller.controller import Controller
    from datastore.errors import Invalid, StoreError, UnsupportedDatastore
    from datastore.urls import open_store, parse

    log = logging.getLogger("controller")
    try:
        if not parse(options.datastore).shared:
            raise Invalid("", f"{options.datastore} would be this process's own")
        store = await open_store(options.datastore)
    except (UnsupportedDatastore, Invalid) as error:
        log.error("--datastore: %s", error)
        return 2
    except StoreError as error:
        log.error("%s", error)
        return 1
    running = Controller(options, store).run(lambda: log.info("%s: asked at %s", options.identity, options.control))
    task = asyncio.ensure_future(running)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
        return 0
    except OSError as error:
        log.error("%s", error)
        return 1
    finally:
        await store.close()
    return 0
