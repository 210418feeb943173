"""CHECK and policy: while a pod's rules are not in force CHECK mends them or says so; it is never true meanwhile."""

import re
from collections.abc import Callable, Iterator

import pytest

from kernel.errors import CommandFailed
from tests.contract.test_cni_check import FOUND
from tests.contract.ways import Document, Way, addresses, failure
from tests.host import hosts
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
_TABLES = ("raw", "mangle", "filter")
_PROGRAMS = ("iptables-nft", "iptables-legacy")
_COUNTERS = re.compile(r"\[\d+:\d+\]")
_DENY: Document = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny", "namespace": "locked"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}
_NAMESPACE: Document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "locked"}}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """A node whose agent looks at the rules only when asked, with a policy that isolates every pod of one namespace."""
    with hosts(tmp_path_factory.mktemp("guarded"), start=False) as host:
        host.apply(_NAMESPACE, _DENY)
        host.start("--refresh", "3600")
        way = Way("relay", host)
        yield way
        way.close()


def _kernel(way: Way) -> list[str]:
    """Every set and rule of ours, in words that can be compared."""
    run = way.host.namespace.run
    lines = [line for line in run("ipset", "save").splitlines() if line.startswith(("create tt", "add tt"))]
    for program in _PROGRAMS:
        for table in _TABLES:
            rules = run(f"{program}-save", "-t", table).splitlines()
            lines += [_COUNTERS.sub("", line) for line in rules if "TORTIE" in line or "tt:" in line]
    return sorted(re.sub(r" (references|hashsize|initval) \S+", "", line) for line in lines)


def _rules(way: Way) -> list[tuple[str, str, str]]:
    """Program, table and text of every line of ours."""
    return [
        (program, table, line)
        for program in _PROGRAMS
        for table in _TABLES
        for line in way.host.namespace.run(f"{program}-save", "-t", table).splitlines()
        if "TORTIE" in line and not line.startswith("#")
    ]


def _remove_members(way: Way, address: str) -> None:
    for line in way.host.namespace.run("ipset", "save").splitlines():
        words = line.split()
        if words[:1] == ["add"] and words[1].startswith("tt") and words[2].partition(",")[0] == address:
            way.host.namespace.run("ipset", "del", words[1], words[2])


def _flush_sets(way: Way, _: str) -> None:
    for name in way.host.namespace.run("ipset", "list", "-name").split():
        way.host.namespace.run("ipset", "flush", name)


def _flush_chains(way: Way, _: str) -> None:
    for program, table, line in _rules(way):
        if line.startswith(":TORTIE"):
            way.host.namespace.run(program, "-t", table, "-F", line[1:].split()[0])


def _remove_jumps(way: Way, _: str) -> None:
    for program, table, line in _rules(way):
        if line.startswith("-A ") and not line.startswith("-A TORTIE"):
            try:
                way.host.namespace.run("sh", "-c", f"{program} -t {table} {line.replace('-A', '-D', 1)}")
            except CommandFailed as error:  # a rule that quotes in its own way: the test needs them gone
                raise AssertionError(line) from error


_BROKEN: dict[str, Callable[[Way, str], None]] = {
    "the pod isn't in its sets": _remove_members,
    "every set is empty": _flush_sets,
    "every chain is empty": _flush_chains,
    "the jumps are gone": _remove_jumps,
}


@pytest.mark.parametrize("breaks", [pytest.param(breaks, id=name) for name, breaks in _BROKEN.items()])
def test_a_check_is_not_true_while_the_policy_is_not_in_force(guarded: Way, breaks: Callable[[Way, str], None]) -> None:
    pod, args = guarded.pod(), "IgnoreUnknown=1;K8S_POD_NAMESPACE=locked;K8S_POD_NAME=web"
    config = guarded.config(policy={"type": "k8s"})
    config["prevResult"] = guarded.add(pod, config, args=args)
    before = _kernel(guarded)
    breaks(guarded, addresses(pod)[0].partition("/")[0])
    assert _kernel(guarded) != before, "nothing was broken"
    said = guarded.call("CHECK", pod, config, args=args)
    if said.status:
        assert failure(said)["code"] == FOUND
    else:
        assert said.out == ""
        assert _kernel(guarded) == before
    guarded.close()


def test_a_check_is_true_while_the_policy_is_in_force(guarded: Way) -> None:
    pod, args = guarded.pod(), "IgnoreUnknown=1;K8S_POD_NAMESPACE=locked;K8S_POD_NAME=web"
    config = guarded.config(policy={"type": "k8s"})
    config["prevResult"] = guarded.add(pod, config, args=args)
    said = guarded.call("CHECK", pod, config, args=args)
    assert (said.status, said.out) == (0, "")
    guarded.close()
