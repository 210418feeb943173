"""Which programs of others are here; a test that needs one that isn't skips, and says which command brings it."""

import shutil

import pytest

from tests.host import CNITOOL, DEBIAN_PLUGINS
from tests.runtimes.image import BUSYBOX
from tests.runtimes.machine import PATH


def needs(*programs: str) -> pytest.MarkDecorator:
    """A mark: skip where one of these is missing."""
    missing = [name for name in programs if shutil.which(name, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"there is no {', '.join(missing)}: sh ci/peers.sh")


needs_cnitool = needs(str(CNITOOL))
needs_podman = needs("podman", "conmon", "runc", str(BUSYBOX), str(DEBIAN_PLUGINS / "portmap"))
needs_containerd = needs(
    *("containerd", "containerd-shim-runc-v2", "ctr", "runc", str(BUSYBOX)),
    *(str(DEBIAN_PLUGINS / name) for name in ("loopback", "portmap")),
)
