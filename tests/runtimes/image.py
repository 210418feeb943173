"""An OCI image archive with busybox in it, made without a registry or an image tool: what the runtimes run.

One layer with /bin/busybox and the folders that a runtime mounts over. Its command listens on a port for as long as it
is let, so it serves as a pod's pause image too, and whoever reaches the port has reached the container.

Sources: OCI image-spec 1.0 (image-layout, manifest, config); containerd's own annotation `io.containerd.image.name`.
"""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

NAME = "localhost/tortie-test:1"
BUSYBOX = Path("/usr/bin/busybox")
PORT = 8080
COMMAND = ("/bin/busybox", "httpd", "-f", "-p", str(PORT))
_FOLDERS = ("bin", "dev", "etc", "proc", "sys", "tmp")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MEDIA = "application/vnd.oci.image"


def make(archive: Path) -> None:
    """Write the archive."""
    layer = _layer(BUSYBOX.read_bytes())
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Cmd": list(COMMAND), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [layer, _encoded(config)]
    media = [f"{_MEDIA}.layer.v1.tar", f"{_MEDIA}.config.v1+json"]
    layers, configured = (_described(blob, kind) for blob, kind in zip(blobs, media, strict=True))
    blobs.append(_encoded({"schemaVersion": 2, "config": configured, "layers": [layers]}))
    named = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME}
    index = {
        "schemaVersion": 2,
        "manifests": [_described(blobs[-1], f"{_MEDIA}.manifest.v1+json") | {"annotations": named}],
    }
    with tarfile.open(archive, "w") as out:
        _file(out, "oci-layout", _encoded({"imageLayoutVersion": "1.0.0"}))
        _file(out, "index.json", _encoded(index))
        for blob in blobs:
            _file(out, "blobs/sha256/" + hashlib.sha256(blob).hexdigest(), blob)


def _layer(busybox: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name in _FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            out.addfile(folder)
        _file(out, "bin/busybox", busybox, 0o755)
    return made.getvalue()


def _file(out: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    out.addfile(member, io.BytesIO(content))


def _described(blob: bytes, media: str) -> dict[str, object]:
    return {"mediaType": media, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _encoded(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
