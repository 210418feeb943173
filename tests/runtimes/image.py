"""An image with busybox in it: what the runtimes run.

Its command listens on a port for as long as it is let, so it serves as a pod's pause image too, and whoever reaches the
port has reached the container.
"""

from pathlib import Path

from ci import oci

NAME = "localhost/tortie-test:1"
BUSYBOX = Path("/usr/bin/busybox")
PORT = 8080
COMMAND = ("/bin/busybox", "httpd", "-f", "-p", str(PORT))
_MOUNT_POINTS = ("dev", "etc", "proc", "sys", "tmp")


def make(archive: Path) -> None:
    """Write the archive."""
    layer = archive.with_suffix(".layer")
    oci.layer(layer, [oci.File("bin/busybox", BUSYBOX), *map(oci.Folder, _MOUNT_POINTS)])
    oci.write(archive, NAME, [layer], {"Cmd": list(COMMAND), "Env": ["PATH=/bin"]})
    layer.unlink()
