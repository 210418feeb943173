"""ipam simulate: nothing is written, and the exit status says whether the pools would do."""

import json
from pathlib import Path

import pytest

from tests.ctl.conftest import Ctl
from tests.ctl.test_ipam import store
from tests.ipam.cluster import healthy

ON_64 = ("ipam", "simulate", "--nodes", "2", "--pool", "10.65.0.0/26", "--block-size", "28")


def test_pools_that_do_are_told_so(ctl: Ctl) -> None:
    said = ctl(*ON_64, "--pods", "20")
    assert (said.status, said.out.splitlines()[-1]) == (0, "every pod got an address")


def test_pools_that_do_not_make_it_exit_1(ctl: Ctl) -> None:
    said = ctl(*ON_64, "--pods", "65")
    assert (said.status, said.out.splitlines()[-1]) == (1, "1 pods got no address, the first after 0 s")


def test_programs_are_told_everything_under_names_that_stay(ctl: Ctl) -> None:
    told = json.loads(ctl(*ON_64, "--pods", "20", "--churn", "1", "--seconds", "10", "-o", "json").out)
    assert sorted(told) == [
        *("assigns", "churn", "firstRefusedAfterSeconds", "mostBlocksOfANode", "nodes", "peakBlocks"),
        *("peakBorrowedShare", "pods", "pools", "readsPerAssign", "refused", "releases", "seconds", "seed"),
        *("writesPerAssign", "writesPerRelease"),
    ]
    (pool,) = told["pools"]
    assert sorted(pool) == ["blocks", "blocksAtMost", "borrowed", "fragmentation", "inBlocks", "name", "used"]
    assert (pool["used"], told["assigns"], told["releases"]) == (20, 30, 10)


def test_the_clusters_own_pools_are_tried_and_nothing_is_written(ctl: Ctl, tmp_path: Path) -> None:
    store(tmp_path, healthy())
    before = ctl("datastore", "export").out.splitlines()[1:]
    told = json.loads(ctl("ipam", "simulate", "--nodes", "3", "--pods", "30", "-o", "json").out)
    assert [one["name"] for one in told["pools"]] == ["blue"]
    assert ctl("datastore", "export").out.splitlines()[1:] == before


def test_a_cluster_without_a_pool_is_told(ctl: Ctl) -> None:
    said = ctl("ipam", "simulate", "--nodes", "3", "--pods", "30")
    assert (said.status, "has no pool" in said.err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nodes", "0", "--pods", "1"],
        ["--nodes", "1", "--pods", "-1"],
        ["--nodes", "1", "--pods", "1", "--churn", "nan"],
        ["--nodes", "1", "--pods", "1", "--churn", "1e9"],
        ["--nodes", "1", "--pods", "1", "--cooldown", "99999"],
        ["--nodes", "1", "--pods", "1", "--pool", "10.65.0.1/24"],
        ["--nodes", "1", "--pods", "1", "--pool", "10.65.0.0/24", "--pool", "10.65.0.0/25"],
        ["--nodes", "1", "--pods", "1", "--pool", "10.65.0.0/24", "--block-size", "40"],
        ["--nodes", "1"],
    ],
)
def test_plans_that_make_no_sense_are_refused(ctl: Ctl, tmp_path: Path, arguments: list[str]) -> None:
    store(tmp_path, healthy())
    said = ctl("ipam", "simulate", *arguments)
    assert (said.status, said.err.count("\n")) == (2, 1), said.err
