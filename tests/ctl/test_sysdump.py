"""sysdump: what mustn't leave isn't in it, and the summary is first."""

import json
import tarfile
from pathlib import Path

import pytest

from ctl.sysdump import redaction
from tests.ctl.conftest import Ctl
from tests.ctl.test_status import fill

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
HUSH = "hunter2"


@pytest.mark.parametrize(
    "said",
    [
        f"Authorization: Bearer {HUSH}-and-more",
        f"datastore postgresql://tortie:{HUSH}@db/tortie can't be reached",
        f"postgresql://tortie:p@{HUSH}@db/tortie",
        f"password={HUSH} host=db",
        f'{{"token": "{HUSH}"}}',
        f"client_secret: '{HUSH}'",
        f"--etcd-password {HUSH}".replace(" ", "="),
        f"-----BEGIN EC PRIVATE KEY-----\n{HUSH}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{HUSH}",
    ],
)
def test_secrets_go_out_of_text(said: str) -> None:
    assert HUSH not in redaction.text(said)
    assert redaction.GONE in redaction.text(said)


def test_a_token_goes_wherever_it_stands() -> None:
    assert JWT not in redaction.text(f"kubelet said {JWT}.")


@pytest.mark.parametrize(
    "said",
    [
        "10.65.0.0/26 via 172.30.0.2 dev eth0 proto 0x54",
        ":TORTIE-FORWARD - [0:0]\n-A TORTIE-FORWARD -m comment --comment tt:abc -j DROP",
        "automountServiceAccountToken: false",
        "sqlite:///var/lib/tortie/tortie.db",
        "etcd://10.0.0.1:2379,10.0.0.2/tortie",
        "shop/db@node-1 is ready",
    ],
)
def test_what_helps_stays(said: str) -> None:
    assert redaction.text(said) == said


def test_objects_lose_values_of_variables_managed_fields_and_secrets() -> None:
    pod = {
        "metadata": {
            "managedFields": [{"x": 1}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": HUSH, "kept": "yes"},
        },
        "spec": {
            "containers": [
                {
                    "env": [
                        {"name": "DB", "value": HUSH},
                        {"name": "TORTIE_NODE", "value": "n1"},
                        {"name": "TORTIE_PASSWORD", "value": HUSH},
                        {"name": "REF", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    ]
                }
            ]
        },
    }
    found = redaction.document({"items": [pod, {"kind": "Secret", "data": {"a": HUSH}}]})
    assert HUSH not in json.dumps(found)
    (kept,) = found["items"]
    assert kept["metadata"] == {"annotations": {"kept": "yes"}}
    variables = kept["spec"]["containers"][0]["env"]
    assert [one.get("value") for one in variables] == ["REDACTED", "n1", "REDACTED", None]
    assert variables[3]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"


def test_the_archive_has_the_summary_first_and_is_its_owners_alone(
    ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    monkeypatch.setenv("DB_PASSWORD", HUSH)
    monkeypatch.setenv("MY_SETTING", HUSH)
    said = ctl("sysdump", "--output", "dump.tar.gz")
    assert said.status == 0, said.err
    path = tmp_path / "dump.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        contents = {
            name.partition("/")[2]: (file.read().decode() if (file := archive.extractfile(name)) else "")
            for name in archive.getnames()
        }
    assert names[0] == "SUMMARY.txt"
    assert "no controller leads" in contents["SUMMARY.txt"]
    assert "What could not be collected:" in contents["SUMMARY.txt"]
    assert {"objects/ippools.tortie.dev.json", "host/links.txt", "host/environment.json"} <= set(names)
    assert HUSH not in "".join(contents.values())
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith(".tmp")] == []


def test_a_place_that_cant_be_written_is_one_sentence(ctl: Ctl, tmp_path: Path) -> None:
    fill(tmp_path)
    said = ctl("sysdump", "--output", "nosuch/dump.tar.gz")
    assert said.status == 1
    assert "nosuch/dump.tar.gz can't be written" in said.err
