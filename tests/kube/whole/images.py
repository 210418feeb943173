"""The images of tests' pods: made of this machine's programs, without a registry, and kept beside Kubernetes'.

| image | what it has |
|---|---|
| pause | busybox asleep: every pod's sandbox (containerd ends it by SIGKILL, so it needs no handler) |
| busybox | every applet |
| agnhost | Kubernetes' own server and prober, and a shell, curl, nc, ip |
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ci import oci
from tests.kube.programs import AGNHOST, KUBERNETES

BUSYBOX_PROGRAM = Path("/usr/bin/busybox")
SHELL = Path("/usr/bin/dash")
"""Busybox' would run its own nc and ip, whatever PATH says."""
TOOLS = (Path("/usr/bin/curl"), Path("/usr/bin/nc"), Path("/usr/sbin/ip"))
"""Debian's; busybox has no curl, and other options for the others."""
PAUSE = "localhost/pause:1"
BUSYBOX = "localhost/busybox:1"
AGNHOST_IMAGE = "localhost/agnhost:1"
_PATH = "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin"
_MOUNT_POINTS = ("dev", "etc", "proc", "sys", "var/run")
_FOREVER_S = "2147483647"


def archives() -> tuple[Path, ...]:
    """Every image; what isn't there yet, or was made by other code, is made now."""
    folder = KUBERNETES / "images"
    folder.mkdir(exist_ok=True)
    stamp = hashlib.sha256(Path(__file__).read_bytes() + Path(oci.__file__).read_bytes()).hexdigest()[:12]
    found = []
    for name, (members, config) in _described().items():
        archive = folder / f"{name.removeprefix('localhost/').replace(':', '-')}-{stamp}.tar"
        if not archive.exists():
            for old in folder.glob(archive.name.replace(stamp, "*")):
                old.unlink()
            _make(archive, name, members, config)
        found.append(archive)
    return tuple(found)


def _described() -> Mapping[str, tuple[Iterator[oci.Member], Mapping[str, object]]]:
    environment = {"Env": [_PATH]}
    return {
        PAUSE: (_busybox(), {"Entrypoint": ["/bin/sleep", _FOREVER_S]}),
        BUSYBOX: (_busybox(), {"Cmd": ["/bin/sh"], **environment}),
        AGNHOST_IMAGE: (_agnhost(), {"Entrypoint": ["/agnhost"], "Cmd": ["pause"], **environment}),
    }


def _make(archive: Path, name: str, members: Iterator[oci.Member], config: Mapping[str, object]) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        layer = Path(folder) / "layer.tar"
        oci.layer(layer, members)
        oci.write(archive, name, [layer], config)


def _busybox() -> Iterator[oci.Member]:
    yield oci.File("bin/busybox", BUSYBOX_PROGRAM)
    yield from (oci.Folder(name) for name in _MOUNT_POINTS)
    yield oci.Folder("tmp", 0o1777)
    for applet in _said(str(BUSYBOX_PROGRAM), "--list").split():
        if applet != "busybox":
            yield oci.Link(f"bin/{applet}", "busybox")


def _agnhost() -> Iterator[oci.Member]:
    yield from _busybox()
    yield oci.File("agnhost", AGNHOST)
    yield oci.File("bin/sh", SHELL)
    for tool in TOOLS:
        yield oci.File(f"usr/local/bin/{tool.name}", tool.resolve())
    for program in (SHELL, *TOOLS):
        yield from (oci.File(path, Path(path).resolve()) for path in _libraries(program))


def _libraries(program: Path) -> Iterator[str]:
    """What the program is linked with, and its loader: the words of ldd that are paths."""
    for line in _said("ldd", str(program)).splitlines():
        yield from (word for word in line.split() if word.startswith("/"))


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
