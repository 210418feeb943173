"""What `host init` keeps of a host."""

from pathlib import Path

from agent.host import manifest
from agent.host.manifest import Manifest
from agent.host.wishes import Asked, Wishes, merged
from datastore.transfer import follow

OLD, NEW = "sqlite:///old.db", "sqlite:///new.db"


def test_the_datastore_of_a_host_is_where_it_was_moved_to(tmp_path: Path) -> None:
    """So init run again writes the new address everywhere, and remove gives back what is there."""
    made = Manifest(wishes=Wishes(node="node-1", datastore=OLD), pools=("blue",))
    manifest.write(tmp_path, made)
    assert manifest.read(tmp_path) == made
    follow.note(tmp_path, OLD, NEW)
    found = manifest.read(tmp_path)
    assert found is not None
    assert (found.wishes.datastore, found.pools) == (NEW, ("blue",))
    assert merged(Asked(), found.wishes, tmp_path).datastore == NEW
