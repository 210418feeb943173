"""DEL as its runtime sees it: answered when nothing of the pod is left on this node, before the store has said a word.

From the journal's rename on the removal is owed, and done at least once whatever dies (invariant 2: a DEL that
succeeded has freed the address, or journalled it). So what the store does takes place beside the answer, and a store
that is slow or away slows no runtime down. What has no record here isn't in the journal and is waited for.
"""

import asyncio
import logging

from cni import detach
from cni.config import Attachment
from cni.delegate import Delegated
from cni.node import Node

log = logging.getLogger(__name__)

_ANSWER_FIRST_S = 0.001
"""The answer is a few turns of the loop away; whatever starts before it makes it wait."""


async def delete(node: Node, attachment: Attachment, below: Delegated | None = None) -> None:
    """Take the pod down, see that its addresses will be freed, and return; `below` as in `detach.delete`.

    Raises:
        HandleBusy, KernelError: see `detach.delete`.
    """
    if attachment.handle in node.removing:
        return  # kubelets say everything twice
    down = asyncio.Event()

    async def answer() -> None:
        node.removing[attachment.handle] = task
        down.set()
        await asyncio.sleep(_ANSWER_FIRST_S)

    def ended(_: asyncio.Task[None]) -> None:
        node.removing.pop(attachment.handle, None)
        down.set()

    task = asyncio.create_task(detach.delete(node, attachment, answer, below))
    task.add_done_callback(ended)
    await down.wait()
    if task.done():
        task.result()
    else:
        task.add_done_callback(_tell)


async def ended(node: Node) -> None:
    """Return when what was answered is in the store, or left to the journal's replay."""
    if node.removing:
        await asyncio.wait(tuple(node.removing.values()))


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a removal waits in the journal", exc_info=task.exception())
