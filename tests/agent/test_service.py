"""The agent's unit: what systemd's own verifier says of it, and words that keep their meaning in it."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from agent import options
from agent.host import service
from agent.host.wishes import Asked, Wishes, merged
from controller import options as controller_options

PLAIN = Wishes(node="node-1", datastore="sqlite:///var/lib/tortie/tortie.db", node_ips=("172.30.0.1", "fd30::1"))
ODD = Wishes(node="node-1", datastore='sqlite:///srv/50%/a "b" $c;d.db', machine="m'1")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze: package systemd")
@pytest.mark.parametrize("unit", [service.UNIT, service.CONTROLLER_UNIT])
@pytest.mark.parametrize("wishes", [PLAIN, ODD], ids=["plain", "odd words"])
def test_systemd_takes_the_unit_without_a_word(tmp_path: Path, wishes: Wishes, unit: str) -> None:
    (tmp_path / service.UNIT).write_bytes(service.unit(service.command(wishes, Path("/srv/state"))))
    controller = service.controller_unit(service.controller_command(wishes, Path("/srv/state")))
    (tmp_path / service.CONTROLLER_UNIT).write_bytes(controller)
    verify = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit))
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_percent_and_dollar_mean_themselves_and_spaces_part_no_words() -> None:
    (line,) = [
        line for line in service.unit(service.command(ODD, Path("/s"))).decode().splitlines() if "ExecStart" in line
    ]
    assert r'"sqlite:///srv/50%%/a \"b\" $$c;d.db"' in line
    assert '"m\'1"' in line


def test_by_hand_it_is_started_by_the_same_words() -> None:
    words = service.command(ODD, Path("/s"))
    assert tuple(shlex.split(service.by_hand(words))) == words


@pytest.mark.parametrize("wishes", [PLAIN, ODD], ids=["plain", "odd words"])
def test_the_agent_takes_its_command_line(wishes: Wishes) -> None:
    argv = service.command(wishes, Path("/srv/state"))[1:]
    parsed = options.parse(argv)
    assert (parsed.node, parsed.datastore, parsed.state) == ("node-1", wishes.datastore, Path("/srv/state"))
    assert tuple(map(str, parsed.node_ips)) == wishes.node_ips


def test_what_is_not_said_stays_as_it_was() -> None:
    before = Wishes(node="a", datastore="sqlite:///d", pools=("10.0.0.0/16",), chain=("portmap",), bin_dir="/b")
    assert merged(Asked(), before, Path("/s")) == before
    assert merged(Asked(pools=("fd00::/48",), chain=()), before, Path("/s")) == Wishes(
        node="a", datastore="sqlite:///d", pools=("fd00::/48",), bin_dir="/b"
    )
    assert merged(Asked(), None, Path("/s")).datastore == "sqlite:///s/tortie.db"


@pytest.mark.parametrize("wishes", [PLAIN, ODD], ids=["plain", "odd words"])
def test_the_controller_takes_its_command_line(wishes: Wishes) -> None:
    parsed = controller_options.parse(service.controller_command(wishes, Path("/srv/state"))[1:])
    assert (parsed.datastore, parsed.state) == (wishes.datastore, Path("/srv/state"))
    assert parsed.identity.startswith("node-1_")
