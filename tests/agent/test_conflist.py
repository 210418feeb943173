"""The conflist comes whole, follows its file, and leaves others' alone."""

import json
from pathlib import Path

import pytest

from agent.conflist import ConflistKeeper, NoConflist, Places, read

CONFLIST = {"cniVersion": "1.0.0", "name": "tortie", "plugins": [{"type": "tortie"}]}


class Node:
    def __init__(self, place: Path) -> None:
        self.file, self.folder = place / "from" / "10-tortie.conflist", place / "net.d"
        for folder in (self.file.parent, self.folder):
            folder.mkdir()
        self.file.write_text(json.dumps(CONFLIST))
        self.told: list[str] = []
        self.keeper = ConflistKeeper(Places(self.file, self.folder), self.told.append)

    @property
    def installed(self) -> Path:
        return self.folder / "10-tortie.conflist"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_before_it_is_installed_that_is_a_reason(node: Node) -> None:
    assert "isn't installed" in node.keeper.reason
    node.keeper.look()
    assert (node.keeper.reason, node.keeper.warning) == ("", "")
    assert node.installed.read_text() == node.file.read_text()
    assert [path.name for path in node.folder.iterdir()] == ["10-tortie.conflist"]


@pytest.mark.parametrize("harm", ["removed", "changed", "a link"])
def test_what_somebody_does_to_it_is_mended(node: Node, harm: str) -> None:
    node.keeper.look()
    node.installed.unlink()
    if harm == "changed":
        node.installed.write_text("{}")
    elif harm == "a link":
        node.installed.symlink_to(node.file)
    node.keeper.look()
    assert not node.installed.is_symlink()
    assert json.loads(node.installed.read_text()) == CONFLIST


def test_a_file_that_is_none_leaves_what_is_there(node: Node) -> None:
    node.keeper.look()
    node.file.write_text("{")
    node.keeper.look()
    assert json.loads(node.installed.read_text()) == CONFLIST
    assert node.keeper.reason == ""
    assert "can't be installed" in node.keeper.warning


def test_a_file_that_never_was_one_is_a_reason(node: Node) -> None:
    node.file.write_text('{"plugins": []}')
    node.keeper.look()
    assert "has no plugins" in node.keeper.reason
    assert not node.installed.exists()


def test_another_network_that_sorts_first_is_told_with_the_next_command(node: Node) -> None:
    other = node.folder / "05-other.conf"
    other.write_text("{}")
    (node.folder / "99-last.conflist").write_text("{}")
    node.keeper.look()
    assert node.keeper.reason == ""
    assert f"mv {other} {other}.disabled" in node.keeper.warning
    assert node.told == [node.keeper.warning]
    assert other.exists()


def test_what_to_do_names_the_folder_as_the_host_knows_it(node: Node) -> None:
    (node.folder / "05-other.conf").write_text("{}")
    keeper = ConflistKeeper(Places(node.file, node.folder, Path("/etc/cni/net.d")), node.told.append)
    keeper.look()
    assert "mv /etc/cni/net.d/05-other.conf /etc/cni/net.d/05-other.conf.disabled" in keeper.warning
    assert str(node.folder) not in keeper.warning


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="a list"),
        pytest.param('{"plugins": [{"type": "tortie"}]}', id="no name"),
        pytest.param('{"name": "x", "plugins": [{"type": "bridge"}]}', id="another's"),
        pytest.param('{"name": "x", "plugins": ["tortie"]}', id="plugins that are none"),
    ],
)
def test_what_is_no_conflist_of_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(NoConflist):
        read(tmp_path / "file")
