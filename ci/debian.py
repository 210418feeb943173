"""Debian packages unpacked into a folder: no root, no chroot, no maintainer scripts; what those would do is done here.

    names ── apt-get download ──► .deb, kept outside the clone by its hash ── unpack ──► FOLDER, merged into /usr

Which version of a package it is, the machine's own package lists say (and apt checks their signatures). The same lists
give the same bytes. Documentation, translations and modules for tests are left out; each package's licence stays.

Sources: apt-get(8), --print-uris; Debian's UsrMerge; update-alternatives of the package iptables.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PYTHON = "python3.11"
PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5"),
    *("libsqlite3-0", "libuuid1", "ca-certificates", "netbase"),
    *("iptables", "libip4tc2", "libip6tc2", "libxtables12", "libmnl0", "libnftnl11"),
    *("libnetfilter-conntrack3", "libnfnetlink0"),
    *("ipset", "libipset13"),
)
"""What our programs load, and what that loads (tests/test_image.py loads every module in the image)."""
_MERGED = ("bin", "sbin", "lib", "lib64")
_LEFT_OUT = re.compile(
    r"usr/share/(man|locale|lintian|bug|bash-completion|applications|pixmaps|menu|info)/"
    r"|usr/share/doc/[^/]+/(?!copyright$)"
    r"|usr/lib/[^/]+/gconv/"
    r"|usr/lib/python3\.11/(lib2to3|ensurepip|idlelib|pydoc_data|turtledemo|tkinter|test|curses|distutils)/"
    r"|usr/lib/python3\.11/lib-dynload/(_test|_xxtest|_ctypes_test|_curses|_dbm|nis|readline|ossaudiodev|_crypt)"
    r"|usr/sbin/ip6?tables-apply$|usr/bin/iptables-xml$|usr/sbin/(arptables|ebtables)"
)
"""Of Python also the modules whose libraries nothing else here needs (curses, readline, dbm, NIS)."""
_LINE = re.compile(r"'[^']*' (?P<file>\S+) \d+ SHA256:(?P<sha256>[0-9a-f]{64})")
_VERBS = ("", "-save", "-restore")


@dataclass(frozen=True, slots=True)
class Deb:
    """A package as the lists have it."""

    file: str
    sha256: str

    @property
    def package(self) -> str:
        """Its name."""
        return self.file.partition("_")[0]


def fetch(cache: Path) -> list[Path]:
    """Every package as a file in `cache`, in the order of names.

    Raises:
        CalledProcessError: apt-get can't tell or get them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    debs = sorted(_listed(), key=lambda deb: deb.package)
    missing = [deb.package for deb in debs if not _is_whole(cache, deb)]
    if missing:
        # As root apt would download as another user, who may not write here.
        subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *missing], cwd=cache, check=True)
    broken = [deb.file for deb in debs if not _is_whole(cache, deb)]
    if broken:
        raise RuntimeError(f"not what the package lists say: {', '.join(broken)}; run apt-get update")
    return [cache / deb.file for deb in debs]


def unpack(debs: Iterable[Path], folder: Path) -> None:
    """A new folder with what the packages have, and what their scripts would have made."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in _MERGED:
        (folder / "usr" / name).mkdir(parents=True)
        (folder / name).symlink_to(f"usr/{name}")
    for deb in debs:
        command = ("dpkg-deb", "--fsys-tarfile", str(deb))
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE) as reading,
            tarfile.open(fileobj=reading.stdout, mode="r|") as members,
        ):
            for member in members:
                _put(members, member, folder)
        if reading.returncode:
            raise RuntimeError(f"{deb.name} can't be unpacked")
    _finish(folder)


def _listed() -> list[Deb]:
    ask = ("apt-get", "download", "--print-uris", *PACKAGES)
    said = subprocess.run(ask, capture_output=True, text=True, check=False)
    if said.returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        said = subprocess.run(ask, capture_output=True, text=True, check=True)
    found = [Deb(**match.groupdict()) for match in _LINE.finditer(said.stdout)]
    absent = set(PACKAGES) - {deb.package for deb in found}
    if absent:
        raise RuntimeError(f"the package lists don't have {', '.join(sorted(absent))}: this needs Debian 12's")
    return found


def _is_whole(cache: Path, deb: Deb) -> bool:
    path = cache / deb.file
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == deb.sha256


def _put(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = _merged(member.name)
    if not name or _LEFT_OUT.match(name + ("/" if member.isdir() else "")):
        return
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        path.mkdir(exist_ok=True)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(folder / _merged(member.linkname), path)
    elif content := members.extractfile(member):
        path.write_bytes(content.read())
        path.chmod(member.mode & 0o755)


def _merged(name: str) -> str:
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/"):
        raise ValueError(f"{name} leaves the package")
    return "/".join(("usr", *parts) if parts and parts[0] in _MERGED else parts)


def _finish(folder: Path) -> None:
    sbin = folder / "usr" / "sbin"
    for program in ("iptables", "ip6tables"):
        for verb in _VERBS:  # Debian's own choice; the agent asks for a backend by name
            (sbin / f"{program}{verb}").symlink_to(f"{program}-nft{verb}")
    (folder / "usr" / "bin" / "python3").symlink_to(PYTHON)
    bundle = folder / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    roots = sorted((folder / "usr" / "share" / "ca-certificates").rglob("*.crt"))
    bundle.write_bytes(b"".join(root.read_bytes() for root in roots))
    home = folder / "usr" / "lib" / "ssl"
    home.mkdir(exist_ok=True)
    _link(home / "cert.pem", "/etc/ssl/certs/ca-certificates.crt")
    _link(home / "certs", "/etc/ssl/certs")
    _write(folder, "etc/passwd", "root:x:0:0:root:/:/nonexistent\ntortie:x:65532:65532:tortie:/:/nonexistent\n")
    _write(folder, "etc/group", "root:x:0:\ntortie:x:65532:\n")
    _write(folder, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\n")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def compile_all(system: Path, folders: Sequence[Path], below: Path) -> None:
    """Bytecode for what is in `folders`, by the Python of the unpacked `system`; it is named as below `below`.

    A container's root is read-only, so that Python would compile everything at each start. `unchecked-hash`: nothing is
    compared at start, and no time gets into the file.
    """
    libraries = next((system / "usr" / "lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*"))
    subprocess.run(
        [
            *(str(loader), "--library-path", str(libraries), str(system / "usr" / "bin" / PYTHON)),
            *("-B", "-s", "-S", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(below), "-p", "/", *map(str, folders)),
        ],
        env={"PYTHONHOME": str(system / "usr"), "PYTHONHASHSEED": "0"},
        check=True,
    )
