"""Who types what docs/kubernetes.md and docs/operating.md show: on a machine of theirs with a checkout, or on nodes.

Clusters of tests have nothing of the world outside, so the image that the pages' pods come from is ours by that name.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.host import BIN, ROOT, Said
from tests.kube.programs import KUBERNETES
from tests.kube.whole.cluster import Cluster
from tests.kube.whole.images import AGNHOST_IMAGE
from tests.kube.whole.machine import PATH, Machine, ran
from tests.pages import Block, plain

_IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"
_LIMIT_S = 300.0
_ON_EVERY_NODE = ("ctr ",)
_ON_A_NODE = ("tortiectl node ",)
_END = "the end of what a command printed"


@dataclass(frozen=True, slots=True)
class Administrator:
    """Types blocks; files that they name are in `folder`, where the checkout's are, too."""

    cluster: Cluster
    folder: Path

    def begin(self) -> None:
        """Put into the folder what a checkout has; and on nodes the image that pods of the pages come from."""
        for name in ("manifests", "build", ".venv"):
            (self.folder / name).symlink_to(ROOT / name)
        for node in self.cluster.nodes:
            node.ctr("images", "tag", AGNHOST_IMAGE, _IMAGE)

    def keep(self, block: Block) -> None:
        """Make the file that a block is."""
        (self.folder / block.file).write_text(block.text)

    def type(self, block: Block) -> str:
        """Every command of a block, where it is to be typed; gives what they print.

        Raises:
            AssertionError: one failed, or printed something else than the page shows.
        """
        if block.language == "console":
            return self._talk(block)
        said = [self._typed(machine, f"set -e\n{block.text}") for machine in self._places(block)]
        for one in said:
            assert one.status == 0, f"{block.text}\n{one.out}{one.err}"
        return "".join(one.out for one in said)

    def _talk(self, block: Block) -> str:
        script = "exec 2>&1\n" + "".join(f"{command}\necho '{_END}'\n" for command, _ in block.commands)
        printed = self._typed(self.cluster.fabric.machine, script).out.split(f"{_END}\n")
        for (command, shown), found in zip(block.commands, printed[:-1], strict=True):
            assert plain(found) == plain(shown), f"$ {command}\n{found}"
        return "".join(printed)

    def _places(self, block: Block) -> tuple[Machine, ...]:
        if block.first.startswith(_ON_EVERY_NODE):
            return tuple(node.machine for node in self.cluster.nodes)
        return (self.cluster.nodes[0].machine if block.first.startswith(_ON_A_NODE) else self.cluster.fabric.machine,)

    def _typed(self, machine: Machine, script: str) -> Said:
        on_node = machine is not self.cluster.fabric.machine
        mine = (f"PATH={BIN}:{KUBERNETES}:{PATH}", f"HOME={self.folder}", f"KUBECONFIG={self.cluster.kubeconfig}")
        environment = (f"PATH={BIN}:{PATH}",) if on_node else mine
        command = (*machine.enter(only_network=not on_node), "env", *environment, "sh", "-c")
        return ran((*command, f"cd {self.folder}\n{script}"), timeout_s=_LIMIT_S)
