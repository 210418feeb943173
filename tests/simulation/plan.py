"""What a seed decides beforehand: how large the cluster is, how tight its pools, how bad its weather."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from tests.simulation.machine import Habits
from tests.simulation.server import Fate, Weather

_CALM = Weather()
_SLOW = ((0.7, 0.002), (0.25, 0.05), (0.05, 2.0))
_ROUGH = ((0.86, Fate.OK), (0.04, Fate.REFUSED), (0.04, Fate.LOST_APPLIED), (0.02, Fate.LOST), (0.04, Fate.LATE))
_AWFUL = ((0.5, Fate.OK), (0.1, Fate.REFUSED), (0.15, Fate.LOST_APPLIED), (0.1, Fate.LOST), (0.15, Fate.LATE))
_SUDDEN = ((0.8, Fate.OK), (0.05, Fate.REFUSED), (0.1, Fate.LOST_APPLIED), (0.05, Fate.LOST))
_WEATHERS = {
    "calm": _CALM,
    "slow": Weather(latency_s=_SLOW, watch_lag_s=2.0, watch_stalls=0.05),
    "rough": Weather(latency_s=_SLOW, fates=_ROUGH, late_s=5.0, watch_lag_s=5.0, watch_stalls=0.02, watch_breaks=0.05),
    "awful": Weather(latency_s=_SLOW, fates=_AWFUL, reads_too=0.3, late_s=30.0, watch_lag_s=30.0, watch_breaks=0.2),
    "late": Weather(latency_s=_SLOW, fates=_ROUGH, late_s=20.0, watch_lag_s=5.0, watch_breaks=0.05),
    "prompt": Weather(latency_s=_SLOW, fates=_SUDDEN, watch_lag_s=5.0, watch_breaks=0.05, prompt=True),
}
"""In the last two nobody reclaims, and all the same nothing may be lost: late writes without a process that dies or an
outage, and deaths of which nothing is left on its way."""
_WEIGHTS = {
    "add": 20.0,
    "add_some": 3.0,
    "add_many_on_one": 3.0,
    "add_asked": 2.0,
    "add_again": 4.0,
    "come_back": 4.0,
    "new_sandbox": 2.0,
    "delete": 14.0,
    "delete_some": 3.0,
    "forget": 1.0,
    "collect": 1.0,
    "take_by_hand": 1.0,
    "give_back_by_hand": 1.0,
    "kill_agent": 4.0,
    "kill_controller": 1.0,
    "start_everything": 4.0,
    "reboot": 1.0,
    "depart": 1.0,
    "banish": 0.5,
    "delete_node": 0.5,
    "lose_record": 0.5,
    "lose_routes": 0.5,
    "outage": 1.0,
    "wait": 2.0,
    "toggle_strict": 0.5,
    "change_pool": 0.5,
}
_THEMES: Mapping[str, Mapping[str, float]] = {
    "everything": {},
    "claims": {"add": 1.0, "add_some": 20.0, "delete": 3.0, "delete_some": 12.0, "kill_agent": 1.0, "wait": 0.0},
    "handles": {"add_again": 12.0, "come_back": 20.0, "delete": 30.0, "kill_agent": 10.0, "start_everything": 10.0},
    "nodes": {"banish": 8.0, "depart": 4.0, "delete_node": 8.0, "lose_record": 4.0, "delete": 4.0, "kill_agent": 2.0},
}
"""What a seed dwells on: weights that are other than those above."""
_DEATHS = ("forget", "depart", "banish", "delete_node", "lose_record")
"""After these something is left that only reclaim can tell to be nobody's."""
_TROUBLE = (*_DEATHS, "kill_agent", "kill_controller", "reboot", "outage")


_MACHINES = {
    "everything": (1, 2, 2, 2, 3, 3, 4, 8),
    "claims": (2, 3, 4, 6, 8),
    "handles": (1, 1, 2),
    "nodes": (1, 2, 3),
}
_SIZES = {
    False: ((28, 30), (28, 30), (28, 29), (29, 30), (27, 29), (26, 28), (30, 30), (30, 32)),
    True: ((28, 30), (27, 29), (27, 30), (26, 29)),
}
"""Prefix lengths of a pool and of its blocks: so tight that everything runs out, unless claims are what matters."""
_GAPS_S = ((0.0, 0.005), (0.0, 0.1), (0.0, 1.0))
"""Between two things that happen in a burst."""
_PAUSES_S = ((1.0, 6.0), (6.0, 40.0, 40.0), (6.0, 40.0, 150.0, 400.0))
"""Between two bursts: addresses cool, reclaim's grace runs, blocks grow idle."""


@dataclass(frozen=True)
class Plan:
    """One seed's."""

    seed: int
    machines: int
    skews_s: tuple[float, ...]
    pools: tuple[IPPool, ...]
    asked_pools: tuple[tuple[str, ...], ...]
    families: tuple[tuple[int, ...], ...]
    strict: bool
    cooldown_s: int
    weather: Weather
    reclaim: bool
    weights: Mapping[str, float]
    gaps_s: tuple[float, float]
    pauses_s: tuple[float, ...]
    bursts: tuple[int, ...]
    """How many things happen in each."""
    risk: float
    standalone: bool
    on_link: bool
    kubernetes: bool
    keep: int

    def habits(self) -> Habits:
        """Of a machine."""
        return Habits(
            reclaim=self.reclaim,
            risk=self.risk,
            standalone=self.standalone,
            on_link=self.on_link,
            kubernetes=self.kubernetes,
        )


def planned(seed: int) -> Plan:
    """The plan of a seed."""
    random = Random(f"{seed}/plan")
    kind = random.choice(list(_WEATHERS))
    absent = {"calm": _TROUBLE, "late": _TROUBLE, "prompt": _DEATHS}.get(kind, ())
    theme = random.choice(["everything", "everything", "claims", "handles", "nodes"])
    weights = {name: weight * random.choice([0.3, 1.0, 3.0]) for name, weight in {**_WEIGHTS, **_THEMES[theme]}.items()}
    weights |= dict.fromkeys(absent, 0.0)
    machines = random.choice(_MACHINES[theme])
    pools, asked = _pools(random, theme)
    dual = any(":" in pool.spec.cidr for pool in pools)
    return Plan(
        seed=seed,
        machines=machines,
        skews_s=tuple(random.choice([0.0, 0.0, -50.0, 90.0]) for _ in range(machines)),
        pools=pools,
        asked_pools=asked,
        families=((4,), (4, 6), (6,)) if dual else ((4,),),
        strict=random.random() < 0.2,
        cooldown_s=random.choice([0, 0, 0, 5, 30]),
        weather=_WEATHERS[kind],
        reclaim=kind not in ("late", "prompt"),
        weights=weights,
        gaps_s=random.choice(_GAPS_S),
        pauses_s=random.choice(_PAUSES_S),
        bursts=tuple(random.randint(2, 14) for _ in range(random.randint(2, 6))),
        risk=0.0 if kind in ("calm", "late") else random.choice([0.0, 0.0, 0.005, 0.03]),
        standalone=random.random() < 0.3,
        on_link=random.random() < 0.1,
        kubernetes=random.random() < 0.5,
        keep=random.choice([10_000, 10_000, 20]),
    )


def _pools(random: Random, theme: str) -> tuple[tuple[IPPool, ...], tuple[tuple[str, ...], ...]]:
    size, block = random.choice(_SIZES[theme == "claims"])
    pools = [_pool("a", f"10.65.0.0/{size}", block)]
    asked: list[tuple[str, ...]] = [()]
    if random.random() < (0.8 if theme == "claims" else 0.4):
        pools.append(_pool("b", f"10.65.0.0/{size}", random.choice([29, 30, 31, 32]) if size < 29 else 30))
        asked += [("a",), ("b",), ("b", "a")]
    if random.random() < 0.3:
        pools.append(_pool("six", "fd65::/124", random.choice([126, 127, 125])))
        asked = [()]
    return tuple(pools), tuple(asked)


def _pool(name: str, cidr: str, block: int) -> IPPool:
    return IPPool(metadata=Metadata(name=name), spec=IPPoolSpec(cidr=cidr, block_size=block))
