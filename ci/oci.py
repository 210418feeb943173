"""An OCI image archive written without a registry or an image tool; `ctr images import` and `podman load` take it.

    members ── layer() ──► a tar, the same bytes for the same members ── write() ──► one archive of layers and config

Sources: OCI image-spec 1.0 (image-layout, layer, config, manifest, annotations); containerd's own annotation
`io.containerd.image.name`, by which an import names the image.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What Go, and so OCI, calls machines."""
_MEDIA = "application/vnd.oci.image"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """A file in a layer: the content itself, or where it is to be read."""

    path: str
    content: bytes | Path
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is empty, or has a mode of its own; those above any member are made without being named."""

    path: str
    mode: int = 0o755


Member = File | Link | Folder


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: str
    size: int
    content: bytes | Path


def layer(path: Path, members: Iterable[Member]) -> None:
    """Write an uncompressed layer of root's; without times, in the order of names, a later member over an earlier."""
    chosen = {_inside(member.path): member for member in members}
    for name in list(chosen):
        for above in PurePosixPath(name).parents:
            chosen.setdefault(str(above), Folder(str(above)))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for name, member in sorted(chosen.items()):
            if name != ".":
                _add(out, name, member)


def write(archive: Path, name: str, layers: Sequence[Path], config: Mapping[str, object]) -> None:
    """Write the archive of the image `name`, such as localhost/web:1; nobody ever sees half of it.

    `layers` are uncompressed tars from the bottom up; `config` is OCI's, such as {"Entrypoint": ["/web"]}.
    """
    found = [_file_blob(path) for path in layers]
    configured = _json_blob(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [blob.digest for blob in found]},
        }
    )
    described = [_descriptor(blob, "layer.v1.tar") for blob in found]
    manifest = _json_blob(
        {"schemaVersion": 2, "config": _descriptor(configured, "config.v1+json"), "layers": described}
    )
    named = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    index = {"schemaVersion": 2, "manifests": [_descriptor(manifest, "manifest.v1+json") | {"annotations": named}]}
    new = archive.with_name(archive.name + ".new")
    with tarfile.open(new, "w") as out:
        _add(out, "oci-layout", File("", _json({"imageLayoutVersion": "1.0.0"}), 0o644))
        _add(out, "index.json", File("", _json(index), 0o644))
        for blob in {blob.digest: blob for blob in (*found, configured, manifest)}.values():
            _add(out, f"blobs/sha256/{blob.digest.removeprefix('sha256:')}", File("", blob.content, 0o644))
    new.replace(archive)


def _inside(path: str) -> str:
    pure = PurePosixPath(path.lstrip("/"))
    if ".." in pure.parts:
        raise ValueError(f"{path} leaves the image")
    return str(pure)


def _add(out: tarfile.TarFile, name: str, member: Member) -> None:
    made = tarfile.TarInfo(name)
    match member:
        case Folder():
            made.type, made.mode = tarfile.DIRTYPE, member.mode
            out.addfile(made)
        case Link():
            made.type, made.mode, made.linkname = tarfile.SYMTYPE, 0o777, member.target
            out.addfile(made)
        case File():
            with _opened(member.content) as file:
                made.mode, made.size = member.mode, file.seek(0, io.SEEK_END)
                file.seek(0)
                out.addfile(made, file)


def _opened(content: bytes | Path) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _file_blob(path: Path) -> _Blob:
    counted = hashlib.sha256()
    for chunk in _chunks(path):
        counted.update(chunk)
    return _Blob(f"sha256:{counted.hexdigest()}", path.stat().st_size, path)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _json_blob(document: object) -> _Blob:
    encoded = _json(document)
    return _Blob(f"sha256:{hashlib.sha256(encoded).hexdigest()}", len(encoded), encoded)


def _descriptor(blob: _Blob, kind: str) -> dict[str, object]:
    return {"mediaType": f"{_MEDIA}.{kind}", "digest": blob.digest, "size": blob.size}


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True).encode()
