"""One host for each file of chains; every test makes its own pod there and leaves nothing of it.

outside  172.30.0.254, fd30::fe ── the host ── 172.31.0.254, fd31::fe  stranger
                                      └─ pods
"""

from collections.abc import Iterator

import pytest

from tests.chains.policies import STRANGER, host_with_policies
from tests.host import Host
from tests.sandbox import Namespace, namespaces


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host_with_policies(tmp_path_factory.mktemp("host")) as found:
        yield found


@pytest.fixture(scope="module")
def stranger(host: Host) -> Iterator[Namespace]:
    """A namespace outside that no policy allows."""
    with namespaces("stranger") as [found]:
        inside = host.namespace
        inside.ip(f"link add up2 type veth peer name up3 netns {found.name}", "link set up2 up")
        inside.ip("addr add 172.31.0.1/24 dev up2", "addr add fd31::1/64 dev up2 nodad")
        found.ip("link set up3 up", f"addr add {STRANGER[0]}/24 dev up3", f"addr add {STRANGER[1]}/64 dev up3 nodad")
        found.ip("route add default via 172.31.0.1", "route add default via fd31::1")
        yield found
