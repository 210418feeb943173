"""`make image`: build/image/tortie.tar, the OCI archive `localhost/tortie:dev`, made without a registry or a container.

    system   Debian's Python, iptables, ipset and the libraries they load      (ci/debian.py)
    wheels   the locked wheels that are shipped                                 (ci/wheels.py)
    tortie   the project's wheel, its programs, the static relay

Three layers, from what changes least to what changes most: a new build costs a node the last one. There is no compiler
in it, no shell and no package manager; its files are root's and have no times. It is for the architecture of the
machine that builds it.

    .venv/bin/python -m ci.image               the archive
    .venv/bin/python -m ci.image --unpacked    the folders alone, for Containerfile
"""

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from ci import debian, oci, wheels
from ci.wheels import ROOT

NAME = "localhost/tortie:dev"
FOLDER = ROOT / "build" / "image"
ARCHIVE = FOLDER / "tortie.tar"
LAYERS = ("system", "wheels", "tortie")
MAX_BYTES = 200_000_000
"""Of the whole archive, which isn't compressed."""
RELAY = ROOT / "build" / "cni"
PROGRAMS = ("tortie", "tortie-ipam")
_LIBEXEC = "usr/libexec/tortie"
_FOLDERS = ("dev", "etc/tortie", "host", "proc", "run/tortie", "sys", "tmp", "var/lib/tortie")
"""Where the host's and the cluster's are mounted; a read-only root can't make them."""
_CONFIG = {
    "Cmd": ["/usr/bin/tortiectl", "--help"],
    "Env": ["PATH=/usr/sbin:/usr/bin", "LANG=C.UTF-8"],
    "WorkingDir": "/",
    "Labels": {
        "org.opencontainers.image.title": "tortie",
        "org.opencontainers.image.description": "A routed pod network with a central datastore",
        "org.opencontainers.image.licenses": "Apache-2.0",
    },
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m ci.image")
    parser.add_argument("--unpacked", action="store_true", help="folders in build/image, and no archive")
    unpacked = parser.parse_args().unpacked
    FOLDER.mkdir(parents=True, exist_ok=True)
    _system(FOLDER / "system")
    _wheels(FOLDER / "wheels")
    _tortie(FOLDER / "tortie")
    if not unpacked:
        print(f"{_archive().relative_to(ROOT)}: {NAME}, {ARCHIVE.stat().st_size / 1e6:.0f} MB")


def members(folder: Path) -> Iterator[oci.Member]:
    """What is in a folder, as an image has it."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield oci.Link(name, os.readlink(path))
        elif path.is_dir():
            yield oci.Folder(name, stat.S_IMODE(path.stat().st_mode) if name == "tmp" else 0o755)
        else:
            yield oci.File(name, path, 0o755 if path.stat().st_mode & 0o111 else 0o644)


def _system(folder: Path) -> None:
    cache = Path(os.environ.get("TORTIE_CACHE") or ("/var/cache/tortie" if os.getuid() == 0 else "~/.cache/tortie"))
    debs = debian.fetch(cache.expanduser() / "debian")
    made_of = "".join(f"{deb.name}\n" for deb in debs) + Path(debian.__file__).read_text()
    if _is_made_of(folder, made_of):
        return
    debian.unpack(debs, folder)
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    debian.compile_all(folder, [folder / "usr" / "lib" / debian.PYTHON], folder)
    _note(folder, made_of)


def _wheels(folder: Path) -> None:
    made_of = wheels.wanted() + Path(wheels.__file__).read_text()
    if _is_made_of(folder, made_of):
        return
    wheels.others(folder)
    debian.compile_all(FOLDER / "system", [folder / wheels.MODULES], folder)
    _note(folder, made_of)


def _tortie(folder: Path) -> None:
    wheels.ours(folder)
    debian.compile_all(FOLDER / "system", [folder / wheels.MODULES], folder)
    (folder / _LIBEXEC).mkdir(parents=True)
    for name in PROGRAMS:
        content = (RELAY / name).read_bytes()
        if not content.startswith(b"\x7fELF") or b"ld-linux" in content or b"ld-musl" in content:
            sys.exit(
                f"{RELAY / name} is no static program, and hosts may have neither Python nor its libraries: "
                "install a C compiler (apt-get install musl-tools), then make -B relay"
            )
        (folder / _LIBEXEC / name).write_bytes(content)
        (folder / _LIBEXEC / name).chmod(0o755)


def _archive() -> Path:
    layers = []
    for name in LAYERS:
        layers.append(FOLDER / f"{name}.layer.tar")
        oci.layer(layers[-1], members(FOLDER / name))
    oci.write(ARCHIVE, NAME, layers, _CONFIG)
    if ARCHIVE.stat().st_size > MAX_BYTES:
        sys.exit(f"{ARCHIVE} has {ARCHIVE.stat().st_size} bytes, more than {MAX_BYTES}")
    return ARCHIVE


def _is_made_of(folder: Path, what: str) -> bool:
    note = folder.with_suffix(".made-of")
    if folder.is_dir() and note.exists() and note.read_text() == what:
        return True
    note.unlink(missing_ok=True)
    return False


def _note(folder: Path, what: str) -> None:
    folder.with_suffix(".made-of").write_text(what)


if __name__ == "__main__":
    main()
