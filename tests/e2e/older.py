"""An older version of tortie, image and manifests: built from a commit of this repository, and kept for the next time.

A release would be had from a registry; there is none yet, so the first commit whose tests on whole clusters passed is
taken for one. A clone without its whole history asks its origin for that commit.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.host import CACHE, ROOT

COMMIT = "cadc6c812fa02826efc9b6647c38fdf8b0a2d930"
NAME = "localhost/tortie:older"
_LIMIT_S = 300
_BUILD = f"from ci import image; image.NAME = {NAME!r}; image.main()"
_KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [manifests]
images: [{name: "localhost/tortie", newTag: older}]
"""


@dataclass(frozen=True, slots=True)
class Older:
    """What an administrator would have of it."""

    archive: Path
    manifests: Path
    """A folder for `kubectl apply -k`, which names the image of the archive."""


def older() -> Older:
    """It, built if it isn't there yet; takes half a minute then.

    Raises:
        AssertionError: git doesn't have the commit, or it can't be built.
    """
    folder = CACHE.expanduser() / f"older-{COMMIT[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        try:
            _build(made)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return Older(folder / "tortie.tar", folder)


def _build(folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    archive = folder / "source.tar"
    archive.write_bytes(_archive())
    _run(folder, "tar", "-xf", str(archive), "-C", str(source))
    (source / ".venv").symlink_to(ROOT / ".venv")
    _run(source, "sh", "ci/relay.sh")
    _run(source, sys.executable, "-c", _BUILD)
    (source / "build" / "image" / "tortie.tar").rename(folder / "tortie.tar")
    (source / "manifests").rename(folder / "manifests")
    (folder / "kustomization.yaml").write_text(_KUSTOMIZATION)
    shutil.rmtree(source)
    archive.unlink()


def _archive() -> bytes:
    command = ("git", "archive", COMMIT)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:  # the clone is shallow
        _run(ROOT, "git", "fetch", "--depth=1", "origin", COMMIT)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, f"git archive {COMMIT}: {done.stderr.decode()}"
    return done.stdout


def _run(folder: Path, *command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=_LIMIT_S
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
