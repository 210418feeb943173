"""The image that `make image` builds: small, without compiler and shell, and its programs start in it."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import image
from ci.wheels import ROOT, locked, shipped

MAX_BYTES = 200_000_000
UNWANTED = (
    "sh",
    "bash",
    "dash",
    "busybox",
    "gcc",
    "cc",
    "tcc",
    "as",
    "ld",
    "make",
    "perl",
    "apt",
    "dpkg",
    "pip",
    "pip3",
)
needs_image = pytest.mark.skipif(not image.ARCHIVE.exists(), reason="there is no build/image/tortie.tar: make image")
ENTER = "chroot" if os.getuid() == 0 else "unshare -r chroot"


def blobs(archive: tarfile.TarFile, name: str) -> Any:  # noqa: ANN401  # decoded JSON
    found = archive.extractfile(name)
    assert found is not None
    return json.load(found)


def blob(descriptor: dict[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The archive's layers, one over the other."""
    root = tmp_path_factory.mktemp("image")
    with tarfile.open(image.ARCHIVE) as archive:
        (entry,) = blobs(archive, "index.json")["manifests"]
        for layer in blobs(archive, blob(entry))["layers"]:
            with tarfile.open(fileobj=archive.extractfile(blob(layer))) as members:
                members.extractall(root, filter="tar")
    yield root
    shutil.rmtree(root)


def run(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin"}
    command = [*(shutil.which(word) or word for word in ENTER.split()), str(root), *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@needs_image
def test_it_is_an_oci_image_of_its_name_and_small() -> None:
    assert image.ARCHIVE.stat().st_size < MAX_BYTES
    with tarfile.open(image.ARCHIVE) as archive:
        assert blobs(archive, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
        (entry,) = blobs(archive, "index.json")["manifests"]
        assert entry["annotations"]["io.containerd.image.name"] == "localhost/tortie:dev"
        manifest = blobs(archive, blob(entry))
        config = blobs(archive, blob(manifest["config"]))
        assert (config["os"], len(config["rootfs"]["diff_ids"])) == ("linux", len(manifest["layers"]))


@needs_image
def test_its_files_are_in_order_of_root_and_without_times() -> None:
    for name in image.LAYERS:
        with tarfile.open(image.FOLDER / f"{name}.layer.tar") as layer:
            members = layer.getmembers()
        assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 0)}
        assert [member.name for member in members] == sorted(member.name for member in members)


@needs_image
@pytest.mark.parametrize("program", UNWANTED)
def test_it_has_no(program: str, unpacked: Path) -> None:
    assert not list(unpacked.glob(f"usr/**/bin/{program}")) + list(unpacked.glob(f"usr/sbin/{program}"))


@needs_image
@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(argv, id=" ".join(argv))
        for argv in (
            ("/usr/bin/tortie-agent", "--help"),
            ("/usr/bin/tortie-controller", "--help"),
            ("/usr/bin/tortiectl", "--help"),
            ("iptables", "--version"),
            ("iptables-legacy", "--version"),
            ("ip6tables-nft", "--version"),
            ("ipset", "version"),
        )
    ],
)
def test_its_programs_start(argv: tuple[str, ...], unpacked: Path) -> None:
    done = run(unpacked, *argv)
    # ipset asks the kernel too, which a test's user may not.
    assert done.returncode == 0 or (argv[0] == "ipset" and "ipset v" in done.stdout), done.stderr
    assert done.stdout


LOADED = """
import importlib, pkgutil, sys
import agent, cni, controller, ctl, datastore, ipam, kernel, lab, policy
for package in (agent, cni, controller, ctl, datastore, ipam, kernel, lab, policy):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
compiled = [m for m in list(sys.modules.values()) if getattr(m, "__cached__", None) and m.__spec__.has_location]
print(len(compiled))
"""


@needs_image
def test_every_module_can_be_loaded_in_it_and_is_compiled(unpacked: Path) -> None:
    done = run(unpacked, "/usr/bin/python3", "-I", "-W", "ignore", "-c", LOADED)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300
    modules = unpacked / "usr/lib/python3/dist-packages"
    for source in (modules / "agent").rglob("*.py"):
        assert (source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc").exists(), source


@needs_image
def test_the_relay_needs_nothing_of_its_host(unpacked: Path) -> None:
    for name in ("tortie", "tortie-ipam"):
        relay = unpacked / "usr/libexec/tortie" / name
        done = subprocess.run([relay], env={"CNI_COMMAND": "VERSION"}, input=b"{}", capture_output=True, check=True)
        assert "1.0.0" in json.loads(done.stdout)["supportedVersions"]


def test_what_is_shipped_is_what_the_project_requires() -> None:
    found = shipped("tortie")
    assert {"kubernetes", "aiohttp", "grpcio", "msgspec", "click"} <= found
    assert not found & {"pytest", "mypy", "ruff", "hypothesis", "coverage"}
    lines = list(locked((ROOT / "requirements.lock").read_text(), found))
    entries = [line for line in lines if not line.startswith(" ")]
    assert len(entries) <= len(found)
    assert any(line.startswith("kubernetes==") for line in entries)
    assert not any(line.startswith("pytest") for line in entries)
