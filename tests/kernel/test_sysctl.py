"""Kernel settings where they are, and where a container has the host's network settings mounted."""

import subprocess
import sys
from pathlib import Path

from kernel import sysctl

READS = """
from kernel import sysctl
sysctl.write("net/ipv4/conf/eth0.5/forwarding", "1")
print(sysctl.read("net/ipv4/conf/eth0.5/forwarding"), sysctl.read("kernel/ostype"))
print(*sysctl.matching("net/ipv4/conf/*/forwarding"))
"""


def test_the_settings_of_a_network_are_found_where_a_container_has_them(tmp_path: Path) -> None:
    for link in ("all", "eth0.5"):
        (tmp_path / "ipv4" / "conf" / link).mkdir(parents=True)
        (tmp_path / "ipv4" / "conf" / link / "forwarding").write_text("0\n")
    environment = {"TORTIE_PROC_SYS_NET": str(tmp_path), "PYTHONPATH": str(Path(sysctl.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", READS], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 Linux", "net/ipv4/conf/all/forwarding net/ipv4/conf/eth0.5/forwarding"]
    assert (tmp_path / "ipv4" / "conf" / "eth0.5" / "forwarding").read_text() == "1"


def test_what_is_there_is_found() -> None:
    found = sysctl.matching("net/ipv4/conf/*/forwarding")
    assert "net/ipv4/conf/all/forwarding" in found
    assert all(sysctl.read(path) in ("0", "1") for path in found)
    assert sysctl.read("net/there/is/no/such") == ""
