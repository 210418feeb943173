"""`tortie-ipam` below another main plugin: addresses without a link, and the same faults."""

import pytest

from tests.faults.conftest import Faulty
from tests.faults.left import eventually
from tests.faults.places import DEL
from tests.faults.runtime import Call, executed
from tests.faults.stores import unwritable
from tests.host import RELAY_IPAM
from tests.sandbox import needs_sandbox

pytestmark = [needs_sandbox, pytest.mark.kernel]
CONFIG = {"cniVersion": "1.0.0", "name": "other", "type": "another", "ipam": {"type": "tortie-ipam"}}
PLACES = [place for place in DEL if place not in ("del down", "del dismissed")]
"""Those that a removal without a link comes to."""


def begin(node: Faulty, command: str, netns: str = "/run/netns/none") -> Call:
    """The plugin, executed as the main plugin does."""
    environment = node.host.environment(
        CNI_COMMAND=command, CNI_CONTAINERID="alone", CNI_NETNS=netns, CNI_IFNAME="eth0", CNI_PATH="/"
    )
    node.calls.append(executed(node.host, RELAY_IPAM, environment, CONFIG))
    return node.calls[-1]


def test_an_address_whose_relay_was_killed_while_it_was_written_is_freed(node: Faulty) -> None:
    undone = node.places.visits("del journalled")
    with unwritable(node.host.database):
        call = begin(node, "ADD", node.host.pod().path)
        eventually(lambda: any(path.stat().st_size for path in (node.host.state / "handles").iterdir()))
        call.kill()
        with pytest.raises(AssertionError):  # nothing is undone before the write's outcome is known
            eventually(lambda: node.places.visits("del journalled") > undone, limit_s=1)
    node.is_whole()


@pytest.mark.parametrize("place", PLACES)
def test_an_address_whose_delete_lost_its_agent_is_freed(node: Faulty, place: str) -> None:
    netns = node.host.pod().path
    assert begin(node, "ADD", netns).said().status == 0
    with node.places.stop(place) as stop:
        call = begin(node, "DEL", netns)
        stop.reached()
        node.kill_agent()
    assert call.said().status == 0
    node.start_agent()
    node.is_whole()
