"""Probes between pods of the lab: real packets, one for each family that both ends have."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

from cni.chain import cached_results
from datastore.errors import Invalid
from datastore.resources.networkpolicy import PROTOCOLS, check_port
from kernel.process import Process
from lab.pods import inside, known
from lab.state import Folder, LabError, LabPod, LabState

_DIGITS = 5
WAIT_S = 2.0
"""How long a probe waits for an answer: a TCP handshake whose first packet was lost is tried again after a second."""
_SPARE_S = 20.0
_OUTCOMES = {"open": True, "closed": True, "silent": False}


@dataclass(frozen=True, slots=True)
class Target:
    """A port to probe."""

    port: int
    protocol: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """`5432`, `53/UDP`, `9999/SCTP`.

        Raises:
            Invalid: it is none.
        """
        number, slash, protocol = text.partition("/")
        if not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            raise Invalid("PORT", f"{text[:80]!r} is no port; write number[/UDP|/SCTP]")
        check_port(int(number), "PORT")
        if slash and protocol.upper() not in PROTOCOLS:
            raise Invalid("PORT", f"{protocol!r} is no protocol of {', '.join(PROTOCOLS)}")
        return cls(int(number), protocol.upper() or "TCP")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one probe: `open`, `closed` (packets pass, nobody listens) or `silent`."""

    address: str
    heard: str

    @property
    def allowed(self) -> bool:
        """Whether packets went there and back."""
        return _OUTCOMES[self.heard]


def probe(
    folder: Folder, state: LabState, source: tuple[str, str], destination: tuple[str, str] | str, target: Target,
    wait_s: float = WAIT_S,
) -> list[Outcome]:  # fmt: skip
    """Probe from a pod to a pod, in each family that both have, or to an address.

    Raises:
        LabError: a pod isn't there, or has no address of the family.
    """
    pod = known(folder, *source)
    own = {ip_address(text).version for text in addresses(folder, pod)}
    there = [destination] if isinstance(destination, str) else addresses(folder, known(folder, *destination))
    chosen = [text for text in there if ip_address(text).version in own]
    if not chosen:
        raise LabError(f"{pod.namespace}/{pod.name} has no address of a family with {', '.join(there) or 'the other'}")
    with ThreadPoolExecutor(max_workers=len(chosen)) as pool:
        return list(pool.map(lambda address: _probe(state, pod, address, target, wait_s), chosen))


def addresses(folder: Folder, pod: LabPod) -> list[str]:
    """A pod's addresses, as its plugin answered them."""
    results = cached_results(folder.results, pod.container_id)
    return [str(ip["address"]).partition("/")[0] for result in results for ip in result.get("ips", [])]


def listens(pod: LabPod) -> bool:
    """Whether a pod's server still runs."""
    return pod.server is not None and Process(pod.server.pid, pod.server.start).alive


def _probe(state: LabState, pod: LabPod, address: str, target: Target, wait_s: float) -> Outcome:
    words: Sequence[str] = (address, str(target.port), target.protocol, str(wait_s))
    done = subprocess.run(
        (*inside(state, pod), sys.executable, "-I", "-m", "lab.probe", *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=wait_s + _SPARE_S,
    )
    heard = done.stdout.strip()
    if heard not in _OUTCOMES:
        raise LabError(f"the probe of {address} failed: {done.stderr.strip() or heard or 'no message'}")
    return Outcome(address, heard)
