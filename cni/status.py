"""STATUS: could an ADD be served now.

    50   it couldn't: the agent isn't in sync, the store can't be written, no address is left
    51   nor are the pods that run as they should be: rules can't be applied

Runtimes ask every few seconds and wait for the answer before anything else, so nothing here may take long.
Source: CNI SPEC 1.1.0 section 2, "STATUS"; section 5 for the codes.
"""

import asyncio
from dataclasses import replace

from cni import delegate
from cni.config import Call
from cni.errors import LimitedConnectivity, NotAvailable
from cni.node import Node
from datastore.errors import StoreError
from ipam.errors import IpamError

_LOOK_S = 1.0
"""How long a plugin below, or the store, may take to say that there are addresses; the store is asked only where this
node has none left."""


async def status(node: Node, call: Call) -> None:
    """Return if ADD can be served.

    Raises:
        NotAvailable, LimitedConnectivity: it can't; says why.
    """
    hurt = node.health.hurts_pods()
    if hurt:
        raise LimitedConnectivity("pods on this node are not as they should be", hurt)
    trouble = await node.health.trouble()
    if trouble:
        raise NotAvailable("ADD can't be served", trouble)
    plugin = None if call.alone else delegate.delegated(call, node.pod_cidrs)
    try:
        async with asyncio.timeout(_LOOK_S):
            if plugin is not None:
                await delegate.run(plugin, "STATUS", call.attachment)
            else:
                # Which namespace the next pod is of, nobody knows: a pool that selects some counts.
                await node.allocator.check_room(replace(call.addressing.wanted, namespace_labels=None))
    except (IpamError, StoreError) as error:
        raise NotAvailable("no address could be assigned", str(error)) from error
    except TimeoutError:
        asked = "the datastore" if plugin is None else f"the IPAM plugin {plugin.type}"
        raise NotAvailable("no address could be assigned", f"{asked} doesn't answer") from None
