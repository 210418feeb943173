"""A seed, run: a loop on virtual time, a world on it, and what it came to."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.happenings import Happenings
from tests.simulation.loop import Stuck, VirtualLoop
from tests.simulation.plan import planned
from tests.simulation.process import task_factory
from tests.simulation.surroundings import surroundings
from tests.simulation.trace import Trace
from tests.simulation.world import World

_MEMORY = Path("/dev/shm")  # noqa: S108  # a seed's files are in a folder of its own


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed came to."""

    seed: int
    violations: tuple[str, ...]
    calls: int
    """Of the store."""
    virtual_s: float
    trace: tuple[str, ...]


def run_seed(seed: int, *, trace: bool = False) -> Outcome:
    """Run one seed to its end, or to its first violation."""
    lines = Trace(on=trace)
    folder = Path(tempfile.mkdtemp(prefix="tortie-simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
    loop = VirtualLoop()
    loop.set_task_factory(task_factory)  # type: ignore[arg-type]
    loop.set_exception_handler(lambda *_: None)
    lines.clock = loop.time
    world = World(planned(seed), lines, folder)
    try:
        with surroundings(lines, world.on_log):
            loop.run_until_complete(_lived(world))
    except Stuck as error:
        world.judge.wrong(f"stuck: {error}")
    finally:
        with surroundings(Trace(), lambda record: None):
            loop.run_until_complete(world.stop())
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        shutil.rmtree(folder)
    return Outcome(seed, tuple(world.judge.violations), world.server.calls, loop.time(), tuple(lines.lines))


async def _lived(world: World) -> None:
    await world.begin_all()
    happenings = Happenings(world)
    plan, random = world.plan, world.random
    for burst in plan.bursts:
        for _ in range(burst):
            happenings.act()
            await asyncio.sleep(random.uniform(*plan.gaps_s))
            if world.judge.violations:
                return
        await asyncio.sleep(random.choice(plan.pauses_s) * random.random())
    await world.come_to_rest()
