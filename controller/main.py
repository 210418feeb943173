"""tortie-controller: reads its options, opens the datastore, runs the controller until it is told to stop."""

import asyncio
import dataclasses
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from controller.options import Options
from controller.options import parse as parse_options

if TYPE_CHECKING:
    from datastore.events import Events
    from datastore.kubernetes.store import KubernetesStore
    from datastore.store import Store

log = logging.getLogger("controller")


def main() -> None:
    """The console script."""
    options = parse_options(sys.argv[1:])
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(asyncio.run(_run(options)))


async def _run(options: Options) -> int:
    # What takes time to import comes after the options are known to be right.
    from datastore.errors import Invalid, StoreError, UnsupportedDatastore
    from datastore.transfer import follow
    from datastore.urls import parse

    configured = options.datastore
    while True:
        try:
            if not parse(configured).shared:
                raise Invalid("", f"{configured} would be this process's own")
            store, url = await follow.open_followed(configured, options.state)
        except (UnsupportedDatastore, Invalid) as error:
            log.error("--datastore: %s", error)
            return 2
        except StoreError as error:
            log.error("%s", error)
            return 1
        try:
            return await _serve(dataclasses.replace(options, datastore=url), store)
        except BaseExceptionGroup as failures:
            left, others = failures.split(follow.Left)
            if left is None or others is not None:
                raise
            log.info("the datastore was moved: starting anew there")
            # It is opened and noted by the mark in the datastore that was left.
        finally:
            await store.close()


async def _serve(options: Options, store: "Store") -> int:
    """Run the controller on a store until it is told to stop.

    Raises:
        BaseExceptionGroup: with `Left`, if the store was left for another.
    """
    task = asyncio.ensure_future(_run_on(options, store))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")
    except OSError as error:
        log.error("%s", error)
        return 1
    return 0


async def _run_on(options: Options, store: "Store") -> None:
    """Answer probes and run the controller.

    Raises:
        OSError: a socket or port isn't to be had.
        BaseExceptionGroup: with `Left`, if the store was left for another.
    """
    from controller.controller import Controller
    from controller.telling import Telling
    from datastore.metered import MeteredStore

    async with AsyncExitStack() as stack:
        api = _api(options, store)
        if api is not None and api is not store:
            stack.push_async_callback(api.close)
        telling = Telling(options, _people(options, api))
        if options.http is not None:
            store = MeteredStore(store, telling.asked)
        await telling.listen(stack)
        controller = Controller(options, store, telling=telling, api=api if options.kubernetes else None)
        await controller.run(lambda: log.info("%s: asked at %s", options.identity, options.control))


def _api(options: Options, store: "Store") -> "KubernetesStore | None":
    """The cluster's Kubernetes API, if it has one: the datastore itself, or what is copied into it."""
    from datastore.urls import parse

    if not options.kubernetes and parse(options.datastore).scheme != "kubernetes":
        return None
    # Only who is on Kubernetes pays for its client.
    from datastore.kubernetes.address import parse as parse_kubernetes
    from datastore.kubernetes.store import KubernetesStore

    if options.kubernetes:
        return KubernetesStore.unopened(parse_kubernetes(options.kubernetes))
    return store if isinstance(store, KubernetesStore) else None


def _people(options: Options, api: "KubernetesStore | None") -> "Events":
    """Where people look."""
    from datastore.events import NoEvents

    if api is None:
        return NoEvents()
    from datastore.kubernetes.recorder import Recorder

    return Recorder(api.cluster("tortie-controller", options.identity), time.monotonic)
