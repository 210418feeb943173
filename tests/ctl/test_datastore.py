"""datastore export, import, check and migrate, as people type them, on files."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from datastore.resources.clusterconfiguration import ClusterConfiguration, ClusterConfigurationSpec, Migration
from datastore.resources.ipblock import IPBlock
from datastore.resources.ipreservation import IPReservation
from datastore.resources.value import Metadata, Resource
from datastore.store import Store
from datastore.transfer import mark
from datastore.urls import open_store
from tests.ctl.conftest import Ctl, Said
from tests.datastore.samples import ip_block, policy, relabelled
from tests.ipam.cluster import Objects, block, healthy, pool


def at(path: Path) -> str:
    return f"sqlite://{path}"


def on(path: Path, work: Callable[[Store], Awaitable[object]]) -> None:
    async def run() -> None:
        store = await open_store(at(path))
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(run())


def fill(path: Path, *resources: Resource) -> None:
    async def work(store: Store) -> None:
        for one in resources:
            await store.create(one)

    on(path, work)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A healthy cluster's, which the commands take for theirs."""
    path = tmp_path / "store.db"
    fill(path, *healthy().by_key.values(), policy())
    return path


def lines(said: Said) -> list[dict[str, object]]:
    return [json.loads(line) for line in said.out.splitlines()]


class TestExport:
    def test_the_same_content_gives_the_same_lines_but_the_first(self, ctl: Ctl, db: Path, tmp_path: Path) -> None:
        first, again = ctl("datastore", "export").out, ctl("datastore", "export").out
        assert first.splitlines()[1:] == again.splitlines()[1:]
        other = tmp_path / "other.db"
        fill(other, *reversed([*healthy().by_key.values(), policy()]))
        there = ctl("datastore", "export", "--datastore", at(other)).out
        assert first.splitlines()[1:] == there.splitlines()[1:]

    def test_the_first_line_says_whose_and_when(self, ctl: Ctl, db: Path) -> None:
        header, *objects = lines(ctl("datastore", "export"))
        identity = json.loads(ctl("datastore", "check", "-o", "json").out)["identity"]
        assert (header["kind"], header["identity"], len(str(header["time"]))) == ("DatastoreExport", identity, 20)
        assert header["objects"]["ipblocks.tortie.dev"] == 2  # type: ignore[index]
        assert len(objects) == sum(header["objects"].values())  # type: ignore[attr-defined]
        assert not any("resourceVersion" in one["metadata"] for one in objects)  # type: ignore[operator]

    def test_some_kinds_only(self, ctl: Ctl, db: Path) -> None:
        _, *objects = lines(ctl("datastore", "export", "--kinds", "netpol,ipp"))
        assert [one["kind"] for one in objects] == ["NetworkPolicy", "IPPool"]
        assert ctl("datastore", "export", "--kinds", "nonsense").status == 2

    def test_a_file_is_written_whole_and_for_its_owner_alone(self, ctl: Ctl, db: Path, tmp_path: Path) -> None:
        file = tmp_path / "out.jsonl"
        assert ctl("datastore", "export", "--file", str(file)).status == 0
        assert (file.stat().st_mode & 0o777, [one.name for one in tmp_path.glob(".out*")]) == (0o600, [])
        assert file.read_text().splitlines()[1:] == ctl("datastore", "export").out.splitlines()[1:]
        assert ctl("datastore", "export", "--file", str(tmp_path / "no" / "out")).status == 1

    def test_a_datastore_that_is_not_there_is_unreachable(self, ctl: Ctl, tmp_path: Path) -> None:
        for command in ("export", "check"):
            said = ctl("datastore", command)
            assert (said.status, said.out, said.err.count("\n")) == (3, "", 1)


class TestImport:
    @pytest.mark.parametrize("form", ["json", "yaml"])
    def test_what_was_exported_is_there_again(self, ctl: Ctl, db: Path, tmp_path: Path, form: str) -> None:
        file, new = tmp_path / "out", at(tmp_path / "new" / "store.db")
        (tmp_path / "new").mkdir()
        ctl("datastore", "export", "-o", form, "--file", str(file))
        said = ctl("datastore", "import", str(file), "--datastore", new)
        assert (said.status, said.out) == (0, "11 created, 0 replaced, 0 unchanged\n")
        assert lines(ctl("datastore", "export", "--datastore", new))[1:] == lines(ctl("datastore", "export"))[1:]
        again = ctl("datastore", "import", str(file), "--datastore", new, "-o", "json")
        assert json.loads(again.out) == {
            "created": [],
            "replaced": [],
            "unchanged": 11,
            "differing": [],
            "skipped": {},
            "dryRun": False,
        }

    def test_what_differs_stays_unless_told_otherwise(self, ctl: Ctl, db: Path, tmp_path: Path) -> None:
        file, new = tmp_path / "out", tmp_path / "new.db"
        ctl("datastore", "export", "--file", str(file))
        fill(new, relabelled(policy(), a="b"))
        said = ctl("datastore", "import", str(file), "--datastore", at(new))
        assert (said.status, said.out.splitlines()[-1]) == (
            1,
            "NetworkPolicy shop/db: differs, and stays as it is there",
        )
        found = json.loads(ctl("get", "netpol", "db", "-n", "shop", "-o", "json", "--datastore", at(new)).out)
        assert found["metadata"]["labels"] == {"a": "b"}
        replaced = ctl("datastore", "import", str(file), "--datastore", at(new), "--replace")
        assert (replaced.status, replaced.out) == (0, "0 created, 1 replaced, 10 unchanged\n")
        found = json.loads(ctl("get", "netpol", "db", "-n", "shop", "-o", "json", "--datastore", at(new)).out)
        assert "labels" not in found["metadata"]

    def test_a_dry_run_writes_nothing(self, ctl: Ctl, db: Path, tmp_path: Path) -> None:
        file, new = tmp_path / "out", tmp_path / "new.db"
        ctl("datastore", "export", "--file", str(file))
        said = ctl("datastore", "import", str(file), "--datastore", at(new), "--dry-run")
        assert (said.status, said.out) == (0, "11 would be created, 0 would be replaced, 0 unchanged\n")
        assert not new.exists()

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            pytest.param(lambda text: text[:-20], "line 12", id="cut off"),
            pytest.param(
                lambda text: text.replace('"cidr":"10.65.0.64/26"', '"cidr":"10.65.0.65/26"'),
                "spec.cidr",
                id="a wrong field",
            ),
            pytest.param(
                lambda text: text.replace('"kind":"IPPool"', '"kind":"IPPole"'), "IPPole", id="an unknown kind"
            ),
            pytest.param(lambda text: text + text.splitlines()[-1], "given twice", id="an object twice"),
            pytest.param(lambda text: text.replace('"format":1', '"format":2'), "format 2", id="a newer format"),
        ],
    )
    def test_bad_input_changes_nothing(
        self, ctl: Ctl, db: Path, tmp_path: Path, change: Callable[[str], str], named: str
    ) -> None:
        file, new = tmp_path / "out", tmp_path / "new.db"
        file.write_text(change(ctl("datastore", "export").out))
        said = ctl("datastore", "import", str(file), "--datastore", at(new))
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
        assert named in said.err
        assert not new.exists()

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            pytest.param(
                block("10.65.0.0/27", "node-9"), "IPBlock 10-65-0-0-27 overlaps IPBlock 10-65-0-0-26", id="within"
            ),
            pytest.param(
                block("10.65.0.0/25", "node-9"), "IPBlock 10-65-0-0-25 overlaps IPBlock 10-65-0-0-26", id="around"
            ),
            pytest.param(pool("red", "10.0.0.0/8"), "IPPool red overlaps IPPool blue", id="a pool"),
        ],
    )
    def test_what_would_give_an_address_twice_is_refused(
        self, ctl: Ctl, db: Path, tmp_path: Path, given: Resource, words: str
    ) -> None:
        other, file = tmp_path / "other.db", tmp_path / "out"
        fill(other, given, policy("fine"))
        ctl("datastore", "export", "--datastore", at(other), "--file", str(file))
        said = ctl("datastore", "import", str(file))
        assert (said.status, words in said.err) == (1, True), said.err
        assert "fine" not in ctl("get", "netpol", "-A").out

    def test_a_backup_of_a_frozen_datastore_is_thawed(self, ctl: Ctl, tmp_path: Path) -> None:
        frozen = msgspec.structs.replace(ip_block(), spec=msgspec.structs.replace(ip_block().spec, frozen="m1"))
        spec = ClusterConfigurationSpec(cooldown_seconds=5, migration=Migration(id="m1", to="memory:"))
        fill(tmp_path / "store.db", frozen, ClusterConfiguration(metadata=Metadata(name="default"), spec=spec))
        file, new = tmp_path / "out", at(tmp_path / "new.db")
        ctl("datastore", "export", "--file", str(file))
        ctl("datastore", "import", str(file), "--datastore", new)
        assert "frozen" not in ctl("get", "ipblocks", "-o", "json", "--datastore", new).out
        configuration = json.loads(ctl("get", "clusterconfig", "default", "-o", "json", "--datastore", new).out)
        assert configuration["spec"] == {"cooldownSeconds": 5}


class TestCheck:
    def test_a_sound_datastore_is_told_so(self, ctl: Ctl, db: Path) -> None:
        said = ctl("datastore", "check")
        assert (said.status, said.out.splitlines()[-1]) == (0, "nothing is wrong")
        told = json.loads(ctl("datastore", "check", "-o", "json").out)
        assert sorted(told) == ["datastore", "identity", "items", "objects", "writeMilliseconds", "writesNotTried"]
        assert (told["items"], told["writesNotTried"], told["writeMilliseconds"] > 0) == ([], "", True)
        assert told["objects"]["workloadendpoints.tortie.dev"] == 4

    def test_it_leaves_nothing_behind(self, ctl: Ctl, db: Path) -> None:
        before = ctl("datastore", "export").out.splitlines()[1:]
        ctl("datastore", "check")
        assert ctl("datastore", "export").out.splitlines()[1:] == before

    def test_reading_alone_writes_nothing(self, ctl: Ctl, db: Path) -> None:
        with sqlite3.connect(db) as connection:
            before = connection.execute("SELECT max(revision) FROM change").fetchone()
            said = ctl("datastore", "check", "--read-only")
            assert (said.status, "not tried: not asked for" in said.out) == (0, True)
            assert connection.execute("SELECT max(revision) FROM change").fetchone() == before
        connection.close()

    @pytest.mark.parametrize(
        ("statement", "words"),
        [
            pytest.param(
                "DELETE FROM field WHERE field = 'node' AND value = 'node-2' AND name = '10-65-0-0-26'",
                "IPBlock 10-65-0-0-26: isn't found by node 'node-2', which it has",
                id="an index that lacks an object",
            ),
            pytest.param(
                "UPDATE field SET value = 'node-7' WHERE field = 'node' AND value = 'node-1' AND name LIKE 'web-%'",
                "WorkloadEndpoint shop/web-c: isn't found by node 'node-1', which it has",
                id="an index that is wrong",
            ),
            pytest.param(
                "INSERT INTO field SELECT kind, field, 'node-2', namespace, name FROM field "
                "WHERE field = 'node' AND name LIKE 'web-%'",
                "WorkloadEndpoint shop/web-c: is found by node 'node-2', which it hasn't",
                id="an index that has too much",
            ),
            pytest.param(
                "UPDATE object SET body = CAST('{' AS BLOB) WHERE name = 'blue'",
                "IPPool blue",
                id="an object that can't be read",
            ),
            pytest.param(
                "UPDATE object SET body = CAST(replace(body, '10.65.0.0/16', '10.65.0.1/16') AS BLOB) "
                "WHERE name = 'blue'",
                "IPPool blue: spec.cidr",
                id="an object that makes no sense",
            ),
        ],
    )
    def test_what_is_broken_is_found(self, ctl: Ctl, db: Path, statement: str, words: str) -> None:
        connection = sqlite3.connect(db)
        with connection:
            assert connection.execute(statement).rowcount == 1
        connection.close()
        said = ctl("datastore", "check")
        assert (said.status, words in said.out) == (1, True), said.out

    def test_what_a_dead_check_left_is_removed_and_what_a_living_one_uses_is_not(self, ctl: Ctl, db: Path) -> None:
        made = {"old": "1000", "new": "9999999999"}
        scratch = [
            IPReservation(metadata=Metadata(name=f"tortie-check-{name}", annotations={"tortie.dev/made-at": at_}))
            for name, at_ in made.items()
        ]
        fill(db, *scratch)
        ctl("datastore", "check")
        assert ctl("get", "ipreservations", "-o", "name").out == "ipreservations/tortie-check-new\n"


class TestMigrate:
    def migrate(self, ctl: Ctl, source: Path, target: Path, *more: str) -> Said:
        return ctl("datastore", "migrate", "--from", at(source), "--to", at(target), *more)

    def test_a_cluster_moves_and_both_say_so(self, ctl: Ctl, db: Path, tmp_path: Path) -> None:
        new = tmp_path / "new.db"
        before = ctl("datastore", "export").out.splitlines()[1:]
        said = self.migrate(ctl, db, new)
        assert (said.status, "done; agents go there by themselves" in said.out) == (0, True), said.err
        after = lines(ctl("datastore", "export", "--datastore", at(new)))[1:]
        assert after[0]["metadata"]["annotations"].keys() == {"tortie.dev/moved-by"}  # type: ignore[index]
        assert [json.loads(line) for line in before[1:]] == after[1:]
        assert ctl("datastore", "check", "--datastore", at(new)).status == 0
        assert ctl("ipam", "check", "--datastore", at(new)).status == 0
        left = ctl("datastore", "check")
        assert (left.status, "was left for SQLite file" in left.out) == (1, True)

    def test_again_says_that_it_was_done(self, ctl: Ctl, db: Path, tmp_path: Path) -> None:
        first = json.loads(self.migrate(ctl, db, tmp_path / "new.db", "-o", "json").out)
        again = json.loads(self.migrate(ctl, db, tmp_path / "new.db", "-o", "json").out)
        assert again == {"id": first["id"], "again": True, "differing": []}

    def test_the_old_one_takes_no_more_writes_of_people_and_warns_who_reads(
        self, ctl: Ctl, db: Path, tmp_path: Path
    ) -> None:
        self.migrate(ctl, db, tmp_path / "new.db")
        (tmp_path / "ns.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
        refused = ctl("apply", "-f", str(tmp_path / "ns.yaml"))
        assert (refused.status, "was left for SQLite file" in refused.err) == (1, True)
        read = ctl("get", "ippools", "-o", "name")
        assert (read.status, read.out, "counts now" in read.err) == (0, "ippools/blue\n", True)

    def test_a_target_in_use_is_refused(self, ctl: Ctl, db: Path, tmp_path: Path) -> None:
        fill(tmp_path / "new.db", policy("other"))
        said = self.migrate(ctl, db, tmp_path / "new.db")
        assert (said.status, "NetworkPolicy shop/other" in said.err, said.err.count("\n")) == (1, True, 1)
        assert ctl("datastore", "check").status == 0

    def test_an_interrupted_one_is_told_and_can_be_given_up(self, ctl: Ctl, db: Path) -> None:
        async def interrupted(store: Store) -> None:
            found = await mark.read(store)
            await mark.write(store, mark.marked(found, Migration(id="m1", to="memory:")))
            one = (await store.list(IPBlock)).items[0]
            await store.update(msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, frozen="m1")))

        on(db, interrupted)
        said = ctl("datastore", "check")
        assert (said.status, "migration m1 to memory of this process hasn't ended" in said.out) == (1, True)
        assert "thawed" in ctl("datastore", "migrate", "--from", at(db), "--abort").err
        assert ctl("datastore", "check").status == 0
        assert ctl("ipam", "check").status == 0
        nothing = ctl("datastore", "migrate", "--from", at(db), "--abort")
        assert (nothing.status, nothing.err) == (1, "tortiectl: no migration is under way\n")

    @pytest.mark.parametrize(
        ("arguments", "status"),
        [
            pytest.param(["--from", "sqlite:///nowhere/x.db", "--to", "sqlite:///tmp/y.db"], 3, id="no source"),
            pytest.param(["--from", "memory:", "--to", "sqlite:///tmp/y.db"], 2, id="a source of this command alone"),
            pytest.param(["--from", "nosuch://x", "--to", "sqlite:///tmp/y.db"], 2, id="no driver"),
            pytest.param(["--to", "sqlite:///tmp/y.db"], 2, id="no --from"),
            pytest.param(["--from", "sqlite:///tmp/y.db"], 2, id="neither --to nor --abort"),
            pytest.param(["--from", "sqlite:///tmp/y.db", "--to", "sqlite:///x", "--abort"], 2, id="both"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, ctl: Ctl, arguments: list[str], status: int) -> None:
        said = ctl("datastore", "migrate", *arguments)
        assert (said.status, said.err.count("\n")) == (status, 1), said.err


def test_objects_stay_alike_through_yaml_and_back(ctl: Ctl, db: Path) -> None:
    documents = list(yaml.safe_load_all(ctl("datastore", "export", "-o", "yaml").out))
    assert documents[1:] == lines(ctl("datastore", "export"))[1:]
    assert Objects(*healthy().by_key.values()).by_key.keys() == healthy().by_key.keys()
