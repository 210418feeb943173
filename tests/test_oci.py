"""The writer of image archives: what it says of its content is so, and the same content gives the same bytes."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ci import oci

MEMBERS = (
    oci.File("/usr/bin/web", b"program"),
    oci.File("etc/web.conf", b"port=1", 0o644),
    oci.Link("bin/web", "../usr/bin/web"),
    oci.Folder("tmp", 0o1777),
)


def made(folder: Path, members: tuple[oci.Member, ...] = MEMBERS) -> Path:
    layer, archive = folder / "layer.tar", folder / "image.tar"
    oci.layer(layer, members)
    oci.write(archive, "localhost/web:1", [layer], {"Entrypoint": ["/bin/web"]})
    return archive


def read(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as image:
        return {member.name: file.read() for member in image if (file := image.extractfile(member))}


def test_each_blob_is_what_its_digest_and_size_say(tmp_path: Path) -> None:
    files = read(made(tmp_path))
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
    assert all(name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}" for name, content in blobs.items())

    def follow(descriptor: dict[str, Any]) -> bytes:
        content = blobs["blobs/" + descriptor["digest"].replace(":", "/")]
        assert len(content) == descriptor["size"]
        return content

    (manifest,) = json.loads(files["index.json"])["manifests"]
    assert manifest["annotations"]["io.containerd.image.name"] == "localhost/web:1"
    found = json.loads(follow(manifest))
    config = json.loads(follow(found["config"]))
    assert config["config"] == {"Entrypoint": ["/bin/web"]}
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in found["layers"]]
    with tarfile.open(fileobj=io.BytesIO(follow(found["layers"][0]))) as layer:
        rows = {member.name: (member.mode, member.linkname) for member in layer}
    assert rows == {
        "bin": (0o755, ""),
        "bin/web": (0o777, "../usr/bin/web"),
        "etc": (0o755, ""),
        "etc/web.conf": (0o644, ""),
        "tmp": (0o1777, ""),
        "usr": (0o755, ""),
        "usr/bin": (0o755, ""),
        "usr/bin/web": (0o755, ""),
    }


def test_the_same_members_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    source = tmp_path / "web"
    source.write_bytes(b"program")
    first = made(tmp_path / "one")
    second = made(tmp_path / "two", (*reversed(MEMBERS[1:]), oci.File("usr/bin/web", source)))
    assert first.read_bytes() == second.read_bytes()


def test_a_later_member_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    oci.layer(tmp_path / "layer.tar", [oci.File("a", b"old"), oci.File("/a", b"new")])
    assert read(tmp_path / "layer.tar") == {"a": b"new"}


def test_no_member_leaves_the_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves the image"):
        oci.layer(tmp_path / "layer.tar", [oci.File("../a", b"")])


def test_an_archive_that_could_not_be_written_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        oci.write(tmp_path / "image.tar", "localhost/web:1", [tmp_path / "no-layer"], {})
    assert list(tmp_path.iterdir()) == []
