"""A lab comes and goes without a trace, as root and as a user; and says why where it can't."""

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from kernel.process import Process, in_mount_namespaces, mount_namespace
from lab import pods, topology
from lab.holder import enter, keepers, start_outer
from lab.state import Folder, LabError, ProcessRecord
from tests.lab.cluster import Cluster
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Folder]:
    made = Folder(Path(tempfile.mkdtemp(prefix="tt-life-")) / "lab")
    yield made
    topology.down(made)
    shutil.rmtree(made.path.parent, ignore_errors=True)


def host_state() -> dict[str, str]:
    """Everything of the surrounding namespaces that a lab must not touch."""
    commands = {
        "links": ("ip", "-br", "link"),
        "routes": ("ip", "route"),
        "rules": ("iptables-save",),
        "legacy rules": ("iptables-legacy-save",),
        "sets": ("ipset", "save"),
        "mounts": ("cat", "/proc/self/mounts"),
        "run": ("ls", "/run"),
    }
    return {
        name: subprocess.run(argv, capture_output=True, text=True, check=True).stdout for name, argv in commands.items()
    }


def test_up_and_down_leave_no_trace(folder: Folder) -> None:
    before = host_state()
    state = topology.up(folder, 2)
    keepers = [state.holder, *(node.keeper for node in state.nodes)]
    inodes = frozenset(mount_namespace(keeper.pid) for keeper in keepers)
    assert len(list(in_mount_namespaces(inodes))) >= 5
    ended = topology.down(folder)
    assert ended == ["node node-1", "node node-2"]
    assert list(in_mount_namespaces(inodes)) == []
    assert not folder.path.exists()
    assert host_state() == before
    assert topology.down(folder) == []


def test_a_second_lab_in_the_same_place_is_refused(folder: Folder) -> None:
    topology.up(folder, 1)
    with pytest.raises(LabError, match="runs at") as refused:
        topology.up(folder, 1)
    assert "tortiectl lab down" in refused.value.hint


def test_two_labs_live_side_by_side(folder: Folder) -> None:
    topology.up(folder, 1)
    other = Folder(folder.path.with_name("other"))
    try:
        topology.up(other, 1)
        for one in (folder, other):
            Cluster(one).run("shop/a", ports=["80"])
            Cluster(one).run("shop/b")
            assert Cluster(one).reaches("shop/b", "shop/a", 80)
    finally:
        topology.down(other)


def test_a_lab_whose_holder_was_killed_is_cleared_away_by_the_next(folder: Folder) -> None:
    state = topology.up(folder, 1)
    for record in (state.holder, state.nodes[0].keeper):
        record.process.end()
        while record.process.alive:
            pass
    assert topology.up(folder, 1).holder != state.holder


def test_down_ends_the_pods_of_a_node_whose_keeper_was_killed(folder: Folder) -> None:
    state = topology.up(folder, 1)
    pod = pods.run(folder, state, pods.NewPod("shop", "web", ports=(pods.Port(80),)))
    assert pod.server is not None
    agent = state.nodes[0].agent
    assert agent is not None
    for process in (state.nodes[0].keeper.process, agent.process):
        process.end()
        while process.alive:
            pass
    topology.down(folder)
    assert not pod.server.process.alive


def test_down_ends_a_keeper_that_no_file_names_yet(folder: Folder) -> None:
    folder.make()
    keeper, _ = start_outer(folder)
    topology.down(folder)
    assert not keeper.process.alive
    assert not folder.path.exists()


def test_down_ends_no_stranger_whose_mount_namespace_gets_the_number_of_one_that_has_just_gone(folder: Folder) -> None:
    """The kernel gives the lowest free number: who makes a namespace just after a keeper has ended gets its."""
    waiting = ("sh", "-c", "read go; exec unshare -m sleep infinity")
    for _ in range(5):
        folder.make()
        keeper, _ = start_outer(folder)
        strangers = [subprocess.Popen(waiting, stdin=subprocess.PIPE) for _ in range(4)]
        ended = threading.Thread(target=_begin_after, args=(os.pidfd_open(keeper.pid), strangers))
        ended.start()
        try:
            topology.down(folder)
            ended.join()
            assert [stranger.poll() for stranger in strangers] == [None] * len(strangers)
        finally:
            for stranger in strangers:
                stranger.kill()
                stranger.communicate()


def _begin_after(pidfd: int, strangers: Sequence["subprocess.Popen[bytes]"]) -> None:
    select.select([pidfd], [], [])
    os.close(pidfd)
    for stranger in strangers:
        assert stranger.stdin is not None
        stranger.stdin.write(b"go\n")
        stranger.stdin.flush()


@pytest.mark.parametrize("after_s", [0.3, 0.5, 0.7, 0.9])
def test_a_lab_that_was_killed_while_it_was_being_made_is_cleared_away(folder: Folder, after_s: float) -> None:
    program = str(Path(sys.executable).with_name("tortiectl"))
    with subprocess.Popen(
        (program, "lab", "up", "--state", str(folder.path)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as making:
        time.sleep(after_s)  # so far and no further: wherever that is
        making.kill()
    identity = folder.identity
    topology.down(folder)
    assert not folder.path.exists()
    assert not identity or list(keepers(identity)) == []


def test_down_ends_no_process_that_only_has_a_pid_of_the_labs(folder: Folder) -> None:
    state = topology.up(folder, 1)
    with subprocess.Popen(("sleep", "60")) as bystander:
        agent = ProcessRecord(bystander.pid, Process.of(bystander.pid).start + 1)
        folder.write(msgspec.structs.replace(state, nodes=(msgspec.structs.replace(state.nodes[0], agent=agent),)))
        topology.down(folder)
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("nodes", [0, 100])
def test_an_impossible_number_of_nodes_is_refused(folder: Folder, nodes: int) -> None:
    with pytest.raises(LabError, match=str(nodes)):
        topology.up(folder, nodes)


def test_a_folder_with_other_things_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="tt-home-"))
    (place / "letters.txt").write_text("dear")
    with pytest.raises(LabError, match="not empty"):
        topology.up(Folder(place), 1)
    assert topology.down(Folder(place)) == []
    assert (place / "letters.txt").exists()
    shutil.rmtree(place)


def test_a_folder_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="too long"):
        topology.up(Folder(tmp_path / ("x" * 80)), 1)


@pytest.fixture
def as_nobody() -> Iterator[tuple[list[str], Path]]:
    """tortiectl as an unprivileged user, and a folder of that user's.

    The project's own interpreter may lie where only root can read; then another of the same version stands in, with
    the project's packages on its path.
    """
    place = Path(tempfile.mkdtemp(prefix="tt-user-"))
    os.chown(place, NOBODY, NOBODY)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = next((one for one in (sys.executable, f"/usr/bin/{version}") if runs_as_nobody(one)), "")
    if not interpreter:
        pytest.fail(f"no {version} that an unprivileged user can run")
    venv = place / "venv"
    subprocess.run((*drop(), interpreter, "-m", "venv", "--without-pip", str(venv)), check=True)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    (venv / "lib" / version / "site-packages" / "tortie.pth").write_text(f"{packages}\n{ROOT}\n")
    programs = {"tortiectl": "ctl", "tortie-agent": "agent", "tortie-controller": "controller"}
    for name, module in programs.items():
        script = venv / "bin" / name
        script.write_text(f"#!{venv}/bin/python\nfrom {module}.main import main\nmain()\n")
        script.chmod(0o755)
    yield [*drop(), str(venv / "bin" / "tortiectl")], place
    shutil.rmtree(place, ignore_errors=True)


def drop() -> tuple[str, ...]:
    user = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--no-new-privs")
    return (*user, "env", "-u", "XDG_RUNTIME_DIR", "HOME=/nonexistent") if os.geteuid() == 0 else ()


def runs_as_nobody(interpreter: str) -> bool:
    try:
        return (
            subprocess.run((*drop(), interpreter, "-c", "import venv"), capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return False


def test_the_demo_runs_for_an_unprivileged_user(as_nobody: tuple[list[str], Path]) -> None:
    command, place = as_nobody
    done = subprocess.run((*command, "demo", "--state", str(place / "d")), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ALLOWED") == 2
    assert done.stdout.count("DENIED") == 2
    assert not (place / "d").exists()


def test_nodes_of_an_unprivileged_users_lab_reach_servers_of_this_machine(as_nobody: tuple[list[str], Path]) -> None:
    command, place = as_nobody
    folder = Folder(place / "d")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        up = ("lab", "up", "--nodes", "1", "--reach", f"127.0.0.1:{port}", "--state", str(folder.path))
        done = subprocess.run((*command, *up), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        try:
            program = f"import socket; print(socket.create_connection(('127.0.0.1', {port})).recv(9))"
            inside = enter(folder.running().node("node-1").keeper, rootless=folder.running().rootless)
            with subprocess.Popen((*inside, "python3", "-c", program), stdout=subprocess.PIPE, text=True) as client:
                server.settimeout(20)
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"hello")
                assert client.communicate(timeout=20)[0] == "b'hello'\n"
        finally:
            subprocess.run((*command, "lab", "down", "--state", str(folder.path)), check=True, capture_output=True)
    assert not folder.path.exists()


@pytest.mark.parametrize("user", ["nobody", "root"])
def test_where_namespaces_are_refused_it_says_so_and_what_to_do(as_nobody: tuple[list[str], Path], user: str) -> None:
    """A machine that refuses, here by an unshare that does."""
    command, place = as_nobody
    refusing = place / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    place.chmod(0o755)
    argv = command if user == "nobody" else [command[-1]]
    environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}
    done = subprocess.run(
        (*argv, "lab", "up", "--state", str(place / "d")), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 3
    assert "Operation not permitted" in done.stderr
    assert ("sudo " if user == "nobody" else "--privileged") in done.stderr
    assert not (place / "d").exists()


def test_a_folder_whose_name_means_something_in_an_address_is_a_folder_like_any_other() -> None:
    folder = Folder(Path(tempfile.mkdtemp(prefix="tt-odd-")) / "a %41#?b")
    try:
        topology.up(folder, 1)
        assert (folder.path / "tortie.db").exists()
        assert Cluster(folder).ctl("get", "nodes.tortie.dev", "--datastore", folder.datastore).out.count("node-1") == 1
    finally:
        topology.down(folder)
        shutil.rmtree(folder.path.parent)


@pytest.mark.parametrize("command", [("lab", "status"), ("lab", "up"), ("get", "pods")])
def test_a_state_that_is_no_folder_is_refused_in_a_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    said = Cluster(Folder(tmp_path / "file")).ctl(*command)
    assert (said.status, said.err.count("\n")) == (2, 1)


def test_a_demo_does_not_end_a_lab_that_it_did_not_make(folder: Folder) -> None:
    state = topology.up(folder, 1)
    said = Cluster(folder).ctl("demo", "--state", str(folder.path))
    assert (said.status, "a lab runs at" in said.err) == (1, True)
    assert state.holder.process.alive
