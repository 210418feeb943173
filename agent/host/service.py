"""Agent and controller as systemd units; where there is no systemd, how a person starts them, and their end."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent import asking
from agent.host.errors import HostError
from agent.host.wishes import Wishes
from agent.options import DEFAULT_STATE

UNIT = "tortie-agent.service"
CONTROLLER_UNIT = "tortie-controller.service"
_RUNNING = Path("/run/systemd/system")
"""There where systemd runs as init (sd_booted(3))."""
_SERVES_S = 60.0
_ENDS_S = 40.0
"""An agent that is told to end lets its calls end for 20 s."""
_COMMAND_S = 90
_LOOK_AGAIN_S = 0.1
_TIMED_OUT = 5
_TEXT = """\
# Made by `tortiectl host init`, and removed by `tortiectl host remove`.
[Unit]
Description=tortie agent: the pod network of this node
Wants=network-online.target
After=network-online.target
Before=kubelet.service

[Service]
ExecStart={command}
Restart=always
RestartSec=1
# What runs is let finish; pods talk on without an agent.
KillMode=mixed
TimeoutStopSec={stop_s:.0f}
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""


_CONTROLLER_TEXT = """\
# Made by `tortiectl host init`, and removed by `tortiectl host remove`.
[Unit]
Description=tortie controller: of all in the cluster one leads, and takes back what departed nodes left
Wants=network-online.target
After=network-online.target

[Service]
ExecStart={command}
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def command(wishes: Wishes, state: Path) -> tuple[str, ...]:
    """How the agent is started."""
    program = Path(sys.executable).with_name("tortie-agent")
    options = ["--node", wishes.node, "--datastore", wishes.datastore]
    if state != DEFAULT_STATE:
        options += ["--state", str(state)]
    if wishes.machine:
        options += ["--machine-id", wishes.machine]
    return (str(program), *options, *(word for address in wishes.node_ips for word in ("--node-ip", address)))


def controller_command(wishes: Wishes, state: Path) -> tuple[str, ...]:
    """How the controller is started."""
    program = Path(sys.executable).with_name("tortie-controller")
    options = ["--datastore", wishes.datastore, "--identity", wishes.node]
    return (str(program), *options, *(("--state", str(state)) if state != DEFAULT_STATE else ()))


def unit(argv: tuple[str, ...]) -> bytes:
    """The text of the agent's unit."""
    return _TEXT.format(command=" ".join(map(_quoted, argv)), stop_s=_ENDS_S).encode()


def controller_unit(argv: tuple[str, ...]) -> bytes:
    """The text of the controller's unit."""
    return _CONTROLLER_TEXT.format(command=" ".join(map(_quoted, argv))).encode()


def by_hand(argv: tuple[str, ...]) -> str:
    """The same for a shell."""
    return shlex.join(argv)


def has_systemd() -> bool:
    """Whether systemd runs this host."""
    return _RUNNING.is_dir()


def is_active(name: str = UNIT) -> bool:
    """Whether a unit runs."""
    shell = ("systemctl", "is-active", "--quiet", name)
    return subprocess.run(shell, check=False, capture_output=True, timeout=_COMMAND_S).returncode == 0


def start(name: str = UNIT) -> None:
    """Enable a unit, and start it anew with what its file says now.

    Raises:
        HostError: systemd refuses.
    """
    _systemctl("daemon-reload")
    _systemctl("enable", name)
    _systemctl("restart", name)


def disable(name: str = UNIT) -> None:
    """Stop a unit for good; its file is the caller's to remove, and `reload` comes after.

    Raises:
        HostError: systemd refuses.
    """
    _systemctl("disable", "--now", name)


def reload() -> None:
    """Make systemd forget a unit whose file has gone.

    Raises:
        HostError: systemd refuses.
    """
    _systemctl("daemon-reload")


def serves(state: Path) -> bool:
    """Whether an agent serves on this state folder."""
    return bool((asking.status(state / "agent.sock") or {}).get("ready"))


def wait_until_served(state: Path) -> None:
    """Return when an agent serves.

    Raises:
        HostError: none does within a minute; status 5.
    """
    if not _eventually(lambda: serves(state), _SERVES_S):
        raise HostError(f"no agent serves after {_SERVES_S:g} s", f"journalctl -u {UNIT} says why", _TIMED_OUT)


def end(state: Path, what: str = "agent") -> bool:
    """End the agent, or the controller, of a state folder, however it was started; gives whether there was one.

    Raises:
        HostError: it doesn't end, or another takes its place.
    """
    control = state / f"{what}.sock"
    process = asking.process_at(control)
    if process is None:
        return False
    process.end(signal.SIGTERM)
    if not _eventually(lambda: not process.alive, _ENDS_S):
        raise HostError(f"the {what} (process {process.pid}) doesn't end", "end it, then run this again", _TIMED_OUT)
    after = asking.process_at(control)
    if after is not None:
        raise HostError(f"something starts the {what} again (process {after.pid})", "stop that, then run this again", 1)
    return True


def _systemctl(*words: str) -> None:
    done = subprocess.run(("systemctl", *words), check=False, capture_output=True, text=True, timeout=_COMMAND_S)
    if done.returncode:
        raise HostError(f"systemctl {' '.join(words)}: {done.stderr.strip() or 'failed'}", status=1)


def _quoted(word: str) -> str:
    """A word of ExecStart (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or not word or set(word) & set(" \t\n'\";") else word


def _eventually(so: Callable[[], bool], limit_s: float) -> bool:
    limit = time.monotonic() + limit_s
    while not so():
        if time.monotonic() > limit:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
