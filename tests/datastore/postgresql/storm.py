"""A process that writes what it likes to a few objects, for test_order.

python -m tests.datastore.postgresql.storm URL SEED TRIES

It prints a line for each try: verb, name, the revision it was made at, outcome, the revision it made.
"""

import asyncio
import random
import sys

from datastore.errors import AlreadyExists, Conflict, NotFound
from datastore.resources.networkpolicy import NetworkPolicy
from datastore.store import Store
from datastore.urls import open_store
from tests.datastore.samples import policy, relabelled

CALLERS = 4
NAMES = ("a", "b", "c")


async def attempt(store: Store, choice: random.Random) -> str:
    """One write on what was just read."""
    name = choice.choice(NAMES)
    try:
        current = await store.get(NetworkPolicy, name, "shop")
    except NotFound:
        verb, at, writing = "create", "-", store.create(policy(name))
    else:
        verb, at = ("delete" if choice.random() < 0.2 else "update"), current.revision
        if verb == "update":
            writing = store.update(relabelled(current, round=str(choice.randrange(10))))
        else:
            writing = deleted(store, current)
    try:
        outcome, revision = "done", (await writing).revision
    except (AlreadyExists, Conflict, NotFound) as error:
        outcome, revision = type(error).__name__, "-"
    return f"{verb} {name} {at} {outcome} {revision or '-'}"


async def deleted(store: Store, current: NetworkPolicy) -> NetworkPolicy:
    await store.delete(current)
    return policy()


async def main() -> None:
    url, seed, tries = sys.argv[1:]
    choice = random.Random(int(seed))  # noqa: S311
    store = await open_store(url)

    async def caller() -> None:
        for _ in range(int(tries) // CALLERS):
            print(await attempt(store, choice))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
