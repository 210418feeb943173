"""What the plugin portmap left for pods of ours that will see no DEL: the chains of their hostPorts.

portmap names a pod's chain by a hash of network and container id, which our records have, so exactly ours can be told
(plugins/meta/portmap/portmap_iptables.go, genDnatChain; pkg/utils/iptables.go). Its chains CNI-HOSTPORT-* are every
network's, portmap itself never takes them away, and they stay. In its nftables backend, which a conflist must ask for,
nothing is looked for.
"""

import hashlib
from collections.abc import Iterable

from agent.host.doing import Doing
from kernel.errors import CommandFailed
from kernel.iptables import LOCK_WAIT_S, Backend
from kernel.runner import Runner
from kernel.tables import Family

_PREFIX = "CNI-DN-"
_LONGEST = 28
"""Characters of a chain's name (XT_EXTENSION_MAXNAMELEN less its NUL)."""


def chain_of(network: str, container_id: str) -> str:
    """The chain of a pod's hostPorts."""
    return (_PREFIX + hashlib.sha512(f"{network}{container_id}".encode()).hexdigest())[:_LONGEST]


def clean(attachments: Iterable[tuple[str, str]], runner: Runner, doing: Doing) -> None:
    """Remove the chains of these networks' containers, in both backends and families; a dry run tells the same.

    Raises:
        CommandFailed: they are there and can't be removed.
    """
    chains = frozenset(chain_of(*one) for one in attachments)
    for backend in Backend if chains else ():
        for family in Family:
            _clean(f"{family.iptables}-{backend.value}", chains, runner, doing)


def _clean(command: str, chains: frozenset[str], runner: Runner, doing: Doing) -> None:
    try:
        saved = runner.run((f"{command}-save",)).splitlines()
    except CommandFailed:
        return  # a backend that isn't installed has none
    found = sorted({line[1:].split(" ", 1)[0] for line in saved if line.startswith(f":{_PREFIX}")} & chains)
    if not found:
        return
    jumps = [line for line in saved if line.startswith("-A ") and line.rpartition(" -j ")[2] in found]
    lines = ["*nat", *(f":{name} - [0:0]" for name in found), *(f"-D{line[2:]}" for line in jumps)]
    text = "\n".join([*lines, *(f"-X {name}" for name in found), "COMMIT", ""])
    if not doing.dry:
        runner.run((f"{command}-restore", "--noflush", "-w", str(LOCK_WAIT_S)), text)
    for name in found:
        doing.note(f"portmap's chain {name} in {command}", "removed")
