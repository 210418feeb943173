"""ADD and DEL by exec: tortie (relay and agent, address persisted, policy in force) against ptp, bridge + host-local.

    python -m bench.cni [--runs 30] [--sizes 10,50,100] [--bursts 5] [--json]

The reference plugins are Debian's and, where `ci/peers.sh` has built them, the newest. Each run makes a fresh
namespace, times ADD, times DEL, and does the same with the other plugins; bursts start many ADDs at once, then as many
DELs. A NetworkPolicy selects every pod; `first` are pods that a policy of their own selects, too, so that each is the
first with its list of policies: chains and sets are made for it before its ADD answers. The agent's database is on a
disk, in the journal mode that the lab uses (SQLite, synchronous FULL). All of it happens in namespaces of its own.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import Summary, as_json, circumstances, ratio
from bench.sandbox import enter
from bench.spawn import Call, run, run_all
from datastore import codec
from datastore.urls import open_store
from lab.state import Folder

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = Path("/usr/lib/cni")
NEWEST = Path(os.environ.get("TORTIE_CACHE", "/var/cache/tortie")) / "cni-plugins-v1.9.1"
RELAY = ROOT / "build" / "cni" / "tortie"
POOLS = {"v4": "10.65.0.0/16", "v6": "fd65::/48"}
_READY_S = 30


@dataclass(frozen=True, slots=True)
class Plugin:
    """What is measured: a program and its configuration."""

    name: str
    program: Path
    config: Path
    environment: Mapping[str, str]

    def call(self, command: str, pod: str) -> Call:
        """A call for a pod whose namespace has its name."""
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"{self.name}-{pod}",
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.program.parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={pod}",
            "PATH": os.environ["PATH"],
        }
        return Call(str(self.program), {**variables, **self.environment}, self.config)


class Bench:
    """An agent and two plugins in this process's network namespace."""

    def __init__(self, place: Path, agent: int) -> None:
        self.place = place
        self.agent = agent
        """The agent's process."""
        self.output = place / "output"
        self._number = 0
        labels = {"labels": [{"key": "app", "value": "web"}]}
        ours = {"type": "tortie", "policy": {"type": "k8s"}, "args": {"cni": labels}}
        self.ours = self._plugin("tortie", RELAY, {**ours, "ipam": {"assign_ipv4": True, "assign_ipv6": False}})
        self.dual = self._plugin("dual", RELAY, {**ours, "ipam": {"assign_ipv4": True, "assign_ipv6": True}})
        self.status = self._plugin("status", RELAY, {**ours, "cniVersion": "1.1.0"})
        self._first = {**ours, "ipam": {"assign_ipv4": True, "assign_ipv6": False}}
        self.references = [
            self._reference(kind, folder, f"10.{77 + number}.0.0/16")
            for number, (folder, kind) in enumerate((f, k) for f in (DEBIAN, NEWEST) for k in ("ptp", "bridge"))
            if (folder / kind).exists()
        ]

    def _reference(self, kind: str, folder: Path, subnet: str) -> Plugin:
        name = kind if folder == DEBIAN else f"{kind}-newest"
        ipam = {"type": "host-local", "subnet": subnet, "dataDir": str(self.place / "host-local")}
        own = {"bridge": f"br-{subnet.split('.')[1]}", "isGateway": True} if kind == "bridge" else {"mtu": 1500}
        return self._plugin(name, folder / kind, {"type": kind, "ipam": ipam, **own})

    def _plugin(self, name: str, program: Path, config: Mapping[str, object]) -> Plugin:
        path = self.place / f"{name}.json"
        path.write_text(json.dumps({"cniVersion": "1.0.0", "name": name, **config}))
        return Plugin(name, program, path, {"TORTIE_CNI_SOCKET": str(self.place / "cni.sock")})

    def alternately(self, runs: int, *plugins: Plugin) -> dict[str, tuple[Summary, Summary]]:
        """ADD and DEL of each plugin, in turn; which begins changes with each run."""
        times: dict[str, tuple[list[float], list[float]]] = {plugin.name: ([], []) for plugin in plugins}
        for number in range(-2, runs):
            for plugin in plugins if number % 2 else reversed(plugins):
                with self.pods(1) as [pod]:
                    added, deleted = (run(plugin.call(command, pod), self.output) for command in ("ADD", "DEL"))
                if number >= 0:  # the first two warm caches up
                    times[plugin.name][0].append(added)
                    times[plugin.name][1].append(deleted)
        return {name: (Summary.of(adds), Summary.of(deletes)) for name, (adds, deletes) in times.items()}

    def first(self, runs: int) -> tuple[Summary, Summary]:
        """ADD and DEL of pods of which each is the first with its list of policies."""
        added, deleted = [], []
        for number in range(runs):
            labels = [{"key": "app", "value": "web"}, {"key": "own", "value": f"n{number}"}]
            plugin = self._plugin("first", RELAY, {**self._first, "args": {"cni": {"labels": labels}}})
            with self.pods(1) as [pod]:
                added.append(run(plugin.call("ADD", pod), self.output))
                deleted.append(run(plugin.call("DEL", pod), self.output))
        return Summary.of(added), Summary.of(deleted)

    def bursts(self, count: int, size: int, *plugins: Plugin) -> dict[str, tuple[Summary, Summary]]:
        """Wall time of many ADDs at once, then of as many DELs."""
        times: dict[str, tuple[list[float], list[float]]] = {plugin.name: ([], []) for plugin in plugins}
        outputs = [self.place / f"output-{number}" for number in range(size)]
        for number in range(count):
            for plugin in plugins if number % 2 else reversed(plugins):
                with self.pods(size) as pods:
                    for place, command in enumerate(("ADD", "DEL")):
                        times[plugin.name][place].append(run_all([plugin.call(command, pod) for pod in pods], outputs))
        return {name: (Summary.of(adds), Summary.of(deletes)) for name, (adds, deletes) in times.items()}

    @contextmanager
    def pods(self, count: int) -> Iterator[list[str]]:
        """Fresh namespaces, gone again and out of the kernel's way before the next measurement."""
        names = [f"bench-{self._number + number}" for number in range(count)]
        self._number += count
        subprocess.run(
            ("ip", "-batch", "-"), input="".join(f"netns add {name}\n" for name in names), text=True, check=True
        )
        time.sleep(0.01)
        try:
            yield names
        finally:
            for name in names:
                subprocess.run(("ip", "netns", "del", name), check=True)
            time.sleep(0.1)


@contextmanager
def prepared(own_policies: int = 0, env: Mapping[str, str] | None = None) -> Iterator[Bench]:
    """An agent that serves, with its database on the disk that the checkout is on; `env` is added to its own."""
    place = ROOT / "build" / "bench"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    folder = Folder(place)
    asyncio.run(_write(folder, own_policies))
    for line in ("link add up0 type veth peer name up1", "link set up0 up", "link set up1 up"):
        subprocess.run(("ip", *line.split()), check=True)
    for line in ("addr add 172.30.0.1/24 dev up0", "addr add fd30::1/64 dev up0 nodad"):
        subprocess.run(("ip", *line.split()), check=True)
    program = Path(sys.executable).with_name("tortie-agent")
    options = ("--node", "node-1", "--datastore", folder.datastore, "--machine-id", "bench", "--state", f"{place}/n")
    addresses = ("--node-ip", "172.30.0.1", "--node-ip", "fd30::1", "--socket", str(place / "cni.sock"))
    log = (place / "agent.log").open("wb")
    command, environment = (str(program), *options, *addresses), {**os.environ, **(env or {})}
    with log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as agent:
        try:
            limit = time.monotonic() + _READY_S
            while not (place / "cni.sock").exists():
                if time.monotonic() > limit or agent.poll() is not None:
                    raise SystemExit(f"the agent doesn't serve: {(place / 'agent.log').read_text()[-500:]}")
                time.sleep(0.05)
            yield Bench(place, agent.pid)
        finally:
            agent.terminate()
            agent.wait()


async def _write(folder: Folder, own_policies: int) -> None:
    store = await open_store(folder.datastore)
    for name, cidr in POOLS.items():
        pool = {"apiVersion": "tortie.dev/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": cidr}}
        await store.create(codec.decode(pool))
    await store.create(codec.decode(_policy("web", {"app": "web"})))
    for number in range(own_policies):
        await store.create(codec.decode(_policy(f"own-{number}", {"own": f"n{number}"})))
    await store.close()


def _policy(name: str, selected: Mapping[str, str]) -> dict[str, object]:
    rule = {"from": [{"podSelector": {}}], "ports": [{"port": 80}]}
    spec = {"podSelector": {"matchLabels": selected}, "ingress": [rule]}
    metadata = {"name": name, "namespace": "bench"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--sizes", default="10,50,100")
    parser.add_argument("--bursts", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not (DEBIAN / "ptp").exists():
        raise SystemExit(f"{DEBIAN}/ptp is missing: sh ci/peers.sh plugins")
    sizes = [int(size) for size in given.sizes.split(",")]
    enter("bench.cni")
    with prepared(own_policies=given.runs) as bench:
        about = circumstances()
        single = bench.alternately(given.runs, bench.ours, *bench.references, bench.dual)
        single["first"] = bench.first(given.runs)
        bursts = {size: bench.bursts(given.bursts, size, bench.ours, *bench.references) for size in sizes}
    print("; ".join(f"{key} {value}" for key, value in about.items()))
    for name, (added, deleted) in single.items():
        print(f"{name:>14}  ADD {added}   DEL {deleted}")
    for size, burst in bursts.items():
        for name, (added, deleted) in burst.items():
            print(f"{name:>14}  {size} ADDs at once {added}   DELs {deleted}")
    results = {
        "add_ratio": ratio(single["tortie"][0], single["ptp"][0]),
        "del_ratio": ratio(single["tortie"][1], single["ptp"][1]),
        "dual_stack_add_ratio": ratio(single["dual"][0], single["ptp"][0]),
    }
    for size, burst in bursts.items():
        results[f"burst{size}_ratio"] = ratio(burst["tortie"][0], burst["ptp"][0])
        results[f"burst{size}_del_ratio"] = ratio(burst["tortie"][1], burst["ptp"][1])
    print("  ".join(f"{key} {value}" for key, value in results.items()))
    if given.json:
        medians = {
            f"{name}_{command}_ms": round(summary.median_ms, 3)
            for name, summaries in single.items()
            for command, summary in zip(("add", "del"), summaries, strict=True)
        }
        walls = {
            f"{name}_burst{size}_add_ms": round(added.median_ms, 1)
            for size, burst in bursts.items()
            for name, (added, _) in burst.items()
        }
        print(as_json({**results, **medians, **walls, **about}))


if __name__ == "__main__":
    main()
