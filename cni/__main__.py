"""`python -I -m cni`: the relay in Python, for machines where no C compiler made one, and the CNI commands by hand.

Where an agent answers, it carries the call to it as `relay.c` does; where none does, it opens the configured store
itself (`cni.standalone`). Run it with -I always: without it Python imports a `cni` from the caller's folder.
"""

import os
import socket
import struct
import sys

from cni.errors import CniError, IoFailure, NotAvailable, TryAgainLater
from cni.request import PROTOCOL, RELAY, Request, pack
from cni.result import NEWEST_VERSION, SUPPORTED_VERSIONS

DEFAULT_SOCKET = "/run/tortie/cni.sock"
_LENGTH = struct.Struct("=I")
_WAIT_S = {"DEL": 20.0, "STATUS": 2.0}
_WAIT_ELSE_S = 180.0
"""For an agent that doesn't answer, as relay.c waits: a runtime asks STATUS before anything else."""
_FORWARDING_KEY = b"allow_ip_forwarding"
_FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
_INSIDE = ("ADD", "CHECK")


def main() -> int:
    """Carry out the call that the environment and standard input hold; gives the exit status."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("CNI_")}
    environment["TORTIE_PROGRAM"] = os.environ.get("TORTIE_PROGRAM", "tortie")
    environment[RELAY] = str(PROTOCOL)
    command = environment.get("CNI_COMMAND", "")
    if not command:
        print(
            f"tortie: a CNI plugin\nCNI protocol versions supported: {', '.join(SUPPORTED_VERSIONS)}", file=sys.stderr
        )
        return 0
    if command == "VERSION":
        from cni.plugin import version

        return _print(0, version())
    try:
        with open(0, "rb", closefd=False) as found:  # sys.stdin is None where the runtime closed it
            stdin = found.read()
    except OSError as error:
        return _print(1, IoFailure("standard input can't be read", str(error)).to_json(NEWEST_VERSION))
    request = _with_namespace(environment, stdin)
    path = os.environ.get("TORTIE_CNI_SOCKET") or DEFAULT_SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(_WAIT_S.get(command, _WAIT_ELSE_S))
        try:
            agent.connect(path)
        except OSError:
            return _print(*_alone(request))
        return _print(*_ask(agent, request))


def _with_namespace(environment: dict[str, str], stdin: bytes) -> Request:
    """The request, with the pod's namespace and a netlink socket inside it where the command needs them."""
    from kernel import netns
    from kernel.batch import NetlinkSocket
    from kernel.errors import NotANamespace

    path = environment.get("CNI_NETNS", "")
    if environment["CNI_COMMAND"] not in _INSIDE or not path:
        return Request(environment, stdin)
    try:
        fd = netns.open_namespace(path)
        inside = netns.run_inside(fd, NetlinkSocket.open)
        files = netns.run_inside(fd, _forwarding) if _FORWARDING_KEY in stdin else ()
        return Request(environment, stdin, (fd, inside.detach(), *files))
    except (NotANamespace, OSError) as error:
        reason = error.reason if isinstance(error, NotANamespace) else str(error)
        return Request({**environment, "TORTIE_NETNS_ERROR": reason}, stdin)


def _forwarding() -> tuple[int, ...]:
    return tuple(os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in _FORWARDING if os.path.exists(path))


def _ask(agent: socket.socket, request: Request) -> tuple[int, bytes]:
    """The agent's answer; where it dies meanwhile a DEL is done here, and what else was asked can be asked again."""
    payload = pack(request.environment, request.stdin)
    try:
        socket.send_fds(agent, [_LENGTH.pack(len(payload))], list(request.fds))
        agent.sendall(payload)
        (length,) = _LENGTH.unpack(_exactly(agent, _LENGTH.size))
        answer = _exactly(agent, length)
    except OSError as error:
        if request.command == "DEL":
            return _alone(request)
        from cni.netconf import version_of

        refusal = NotAvailable if request.command == "STATUS" else TryAgainLater
        return 1, refusal("the tortie agent went away", str(error)).to_json(version_of(request.stdin))
    return answer[0], answer[1:]


def _exactly(agent: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        chunk = agent.recv(length - len(data))
        if not chunk:
            raise ConnectionResetError("the agent ended the connection")
        data += chunk
    return bytes(data)


def _alone(request: Request) -> tuple[int, bytes]:
    import asyncio

    from cni import standalone
    from cni.plugin import failed

    try:
        output = asyncio.run(standalone.run(request))
    except CniError as error:
        output = failed(error, request)
    return output.status, output.stdout


def _print(status: int, stdout: bytes) -> int:
    sys.stdout.buffer.write(stdout)
    sys.stdout.buffer.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
