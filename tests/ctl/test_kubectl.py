"""kubectl-tortie: kubectl's own flags choose the cluster, wherever they stand."""

import os
from pathlib import Path

import pytest

from ctl import kubectl
from ctl.failures import Failure
from datastore.kubernetes.address import KubernetesAddress
from datastore.urls import parse


@pytest.mark.parametrize(
    ("words", "left", "flags"),
    [
        (["status"], ["status"], {}),
        (["--context", "lab", "status", "--wait"], ["status", "--wait"], {"--context": "lab"}),
        (["get", "pods", "-n", "shop", "--context=lab"], ["get", "pods", "-n", "shop"], {"--context": "lab"}),
        (["status", "--kubeconfig=/k"], ["status"], {"--kubeconfig": "/k"}),
        (["lab", "exec", "a/b", "--", "x", "--context", "y"], ["lab", "exec", "a/b", "--", "x", "--context", "y"], {}),
    ],
)
def test_its_flags_may_stand_anywhere_before_two_dashes(words: list[str], left: list[str], flags: object) -> None:
    assert kubectl.taken(words) == (left, flags)


def test_a_flag_without_a_value_is_refused() -> None:
    with pytest.raises(Failure, match="--context needs a value"):
        kubectl.taken(["status", "--context"])


@pytest.mark.parametrize(
    ("kubeconfig", "context", "expected"),
    [
        ("", "", KubernetesAddress()),
        ("", "a b", KubernetesAddress(context="a b")),
        ("/etc/my config", "lab", KubernetesAddress(Path("/etc/my config"), context="lab")),
    ],
)
def test_the_flags_make_the_address_of_a_datastore(kubeconfig: str, context: str, expected: object) -> None:
    assert parse(kubectl.datastore(kubeconfig, context)) == expected


def test_kubernetes_is_asked_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORTIE_DATASTORE", f"sqlite://{tmp_path}/x.db")
    with pytest.raises(SystemExit) as ended:
        kubectl.main(["status", "--kubeconfig", str(tmp_path / "none")])
    assert ended.value.code == 3
    assert "there is no kubeconfig" in capsys.readouterr().err
    assert os.environ["TORTIE_DATASTORE"].startswith("kubernetes:")


def test_help_names_the_plugin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORTIE_DATASTORE", "")
    with pytest.raises(SystemExit):
        kubectl.main(["status", "--help"])
    assert capsys.readouterr().out.startswith("Usage: kubectl tortie status")
