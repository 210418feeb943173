"""What a new cluster begins with is made once, and what people make of it afterwards stays."""

import asyncio
import dataclasses
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from controller import defaults
from controller.controller import Controller
from controller.options import parse
from datastore.errors import Invalid, NotFound, Unavailable
from datastore.memory import MemoryStore
from datastore.resources.clusterconfiguration import NAME, ClusterConfiguration
from datastore.resources.ippool import IPPool
from datastore.resources.value import Metadata, Resource
from tests.controller.test_controller import TIMING, options
from tests.host import ROOT

R = TypeVar("R", bound=Resource)

FILE = """\
apiVersion: tortie.dev/v1
kind: ClusterConfiguration
metadata: {name: default}
spec: {strictAffinity: true}
---
apiVersion: tortie.dev/v1
kind: IPPool
metadata: {name: default-ipv4}
spec: {cidr: 10.244.0.0/16, natOutgoing: true}
"""


def written(folder: Path, text: str = FILE) -> Path:
    path = folder / "defaults.yaml"
    path.write_text(text)
    return path


async def test_a_new_cluster_gets_them_the_configuration_last(tmp_path: Path) -> None:
    store, found = MemoryStore(), defaults.read(written(tmp_path))
    assert [one.name for one in found] == ["default-ipv4", NAME]
    assert await defaults.make(store, found) == [
        "created IPPool default-ipv4: the cluster is new",
        "created ClusterConfiguration default: the cluster is new",
    ]
    assert (await store.get(IPPool, "default-ipv4")).spec.nat_outgoing
    assert (await store.get(ClusterConfiguration, NAME)).spec.strict_affinity


async def test_what_people_delete_or_change_stays_as_they_have_it(tmp_path: Path) -> None:
    store, found = MemoryStore(), defaults.read(written(tmp_path))
    await defaults.make(store, found)
    await store.delete(await store.get(IPPool, "default-ipv4"))
    configuration = await store.get(ClusterConfiguration, NAME)
    spec = msgspec.structs.replace(configuration.spec, strict_affinity=False)
    await store.update(msgspec.structs.replace(configuration, spec=spec))
    assert await defaults.make(store, found) == []
    assert not (await store.get(ClusterConfiguration, NAME)).spec.strict_affinity
    with pytest.raises(NotFound):
        await store.get(IPPool, "default-ipv4")


class CutShort(MemoryStore):
    """Refuses the ClusterConfiguration once."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 1

    async def create(self, resource: R) -> R:
        if isinstance(resource, ClusterConfiguration) and self.refusals:
            self.refusals -= 1
            raise Unavailable("away")
        return await super().create(resource)


async def test_what_was_cut_short_is_done_again(tmp_path: Path) -> None:
    store, found = CutShort(), defaults.read(written(tmp_path))
    with pytest.raises(Unavailable):
        await defaults.make(store, found)
    assert await defaults.make(store, found) == ["created ClusterConfiguration default: the cluster is new"]


async def test_the_leader_makes_them(tmp_path: Path) -> None:
    store = MemoryStore()
    found = defaults.read(written(tmp_path))
    controller = Controller(dataclasses.replace(options(tmp_path / "state"), defaults=found), store, TIMING)
    task = asyncio.ensure_future(controller.run())
    async with asyncio.timeout(20):
        while not (await store.list(ClusterConfiguration)).items:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "created IPPool default-ipv4: the cluster is new" in controller.status()["last"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("a: [", "is no YAML", id="no YAML"),
        pytest.param("apiVersion: tortie.dev/v1\nkind: Pool\n", "IPPool", id="no such kind"),
        pytest.param(FILE.replace("10.244.0.0/16", "10.244.0.1/16"), "spec.cidr", id="host bits"),
        pytest.param(FILE.replace("natOutgoing", "nat"), "spec.nat", id="no such field"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_touched(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Invalid, match=said):
        defaults.read(written(tmp_path, text))
    with pytest.raises(SystemExit):
        parse(["--datastore", "memory:", "--defaults", str(tmp_path / "defaults.yaml")])
    assert "defaults.yaml" in capsys.readouterr().err


def test_a_file_without_a_configuration_has_one_without_settings(tmp_path: Path) -> None:
    found = defaults.read(written(tmp_path, FILE.partition("---\n")[2]))
    assert found[-1] == ClusterConfiguration(metadata=Metadata(name=NAME))


def test_those_of_the_manifests_are_right() -> None:
    pool, configuration = defaults.read(ROOT / "manifests" / "base" / "defaults.yaml")
    assert isinstance(pool, IPPool)
    assert (pool.spec.cidr, pool.spec.nat_outgoing) == ("10.244.0.0/16", True)
    assert isinstance(configuration, ClusterConfiguration)
    assert configuration.spec.strict_affinity
