"""The locked wheels that are shipped, and the project's own, as a folder: no tests, no sources in C, no models.

What is shipped is what `tortie` requires, all the way down, by what is installed here; versions and hashes are the
lock's. Of the package `kubernetes` its models and its calls for each kind stay behind, 70 MB that nothing imports
(`datastore/kubernetes/access.py` says what is used).
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MODULES = "usr/lib/python3/dist-packages"
"""Where Debian's Python looks, besides its own folder."""
_PYTHON = ROOT / ".venv" / "bin" / "python"
_UV = ROOT / ".venv" / "bin" / "uv"
_PLATFORM = f"{platform.machine()}-manylinux_2_36"
"""Debian 12's glibc."""
_LEFT_OUT = re.compile(
    r"bin/|.*\.(pyi|pyx|pxd|pxi|c|h|cc|cpp)$|.*_test\.py$|(.*/)?(tests?|testing)/"
    r"|kubernetes/(aio/)?client/(models|api)/(?!__init__\.py$)"
    r"|[^/]+\.dist-info/(uv_.*|RECORD|INSTALLER|REQUESTED|direct_url\.json)$|\.lock$"
)
_LAUNCHER = """\
#!/usr/bin/python3.11 -I
import sys
from {module} import {function}
sys.exit({function}())
"""


def wanted() -> str:
    """The lock's lines of what is shipped; they decide what the folder of `others` has."""
    return "".join(locked((ROOT / "requirements.lock").read_text(), shipped("tortie")))


def others(folder: Path) -> None:
    """A new folder with the wheels of others."""
    requirements = folder.with_suffix(".txt")
    requirements.write_text(wanted())
    _install(folder, "--require-hashes", "-r", str(requirements))


def ours(folder: Path) -> None:
    """A new folder with the project's own wheel and its programs in /usr/bin."""
    built = folder.with_suffix(".wheel")
    shutil.rmtree(built, ignore_errors=True)
    _uv("build", "-q", "--wheel", "--out-dir", str(built), str(ROOT))
    (wheel,) = built.glob("*.whl")
    _install(folder, str(wheel))
    programs = folder / "usr" / "bin"
    programs.mkdir(parents=True)
    for made in distributions(path=[str(folder / MODULES)]):
        for entry in made.entry_points.select(group="console_scripts"):
            (programs / entry.name).write_text(_LAUNCHER.format(module=entry.module, function=entry.attr))
            (programs / entry.name).chmod(0o755)


def shipped(project: str) -> frozenset[str]:
    """The names of all that a project requires, by what is installed."""
    found: set[str] = set()
    todo = [(project, "")]
    while todo:
        name, extra = todo.pop()
        for text in distribution(name).requires or ():
            required = Requirement(text)
            if required.marker is not None and not required.marker.evaluate({"extra": extra}):
                continue
            other = canonicalize_name(required.name)
            todo += [(other, each) for each in ("", *required.extras) if other not in found or each]
            found.add(other)
    return frozenset(found)


def locked(lock: str, names: frozenset[str]) -> Iterator[str]:
    """The lock's lines for some packages: an entry begins at the margin, its hashes are indented."""
    taken = False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            taken = canonicalize_name(re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]) in names
        if taken and not line.startswith("#"):
            yield line


def _install(folder: Path, *what: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    target = folder / MODULES
    target.mkdir(parents=True)
    flags = ("--python", str(_PYTHON), "--python-version", "3.11", "--python-platform", _PLATFORM)
    _uv("pip", "install", "-q", *flags, "--no-deps", "--only-binary", ":all:", "--target", str(target), *what)
    for path in sorted(target.rglob("*"), reverse=True):
        name = str(path.relative_to(target))
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif not path.is_dir() and _LEFT_OUT.match(name):
            path.unlink()


def _uv(*words: str) -> None:
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_LINK_MODE": "copy", "SOURCE_DATE_EPOCH": "315532800"}
    subprocess.run([str(_UV), *words], cwd=ROOT, env=environment, check=True)
