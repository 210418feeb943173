"""Versions that don't go together: definitions older than this program, agents and controller of different images."""

import asyncio
from collections.abc import Sequence

from ctl.installation import AGENT, CONTROLLER, Container, DaemonSet, PodSeen
from ctl.status.seen import Skew
from datastore.errors import Forbidden
from datastore.kubernetes.definitions import Definition, lacking, path
from datastore.kubernetes.requests import Requests
from datastore.resources.ippool import IPPool
from datastore.resources.kinds import KINDS
from datastore.resources.value import Resource

_OURS = tuple(kind for kind in KINDS if kind.KIND.group == IPPool.KIND.group)
_SHOWN = 3
_APPLY = "kubectl apply --server-side -k manifests/crds"


async def of_definitions(requests: Requests) -> list[Skew]:
    """What definitions don't know of this program's kinds; nothing where one may not read them.

    Raises:
        StoreError: they can't be read.
    """
    try:
        return [one for found in await asyncio.gather(*(_judged(requests, kind) for kind in _OURS)) for one in found]
    except Forbidden:
        return []


async def of_images(requests: Requests, namespace: str, made: DaemonSet, pods: Sequence[PodSeen]) -> list[Skew]:
    """Agents that aren't of their DaemonSet's image, and a controller that isn't of the agents'.

    Raises:
        StoreError: the controller can't be read.
    """
    wanted = _image(made.spec.template.spec.containers)
    others = sorted(one.spec.node_name for one in pods if _image(one.spec.containers) != wanted)
    found = []
    if others:
        shown = ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")
        follow = f"kubectl -n {namespace} rollout status daemonset/{AGENT}"
        found.append(Skew(f"the agents of {shown} aren't of the image {wanted} yet", follow, wrong=False))
    controller = await requests.read(f"/apis/apps/v1/namespaces/{namespace}/deployments/{CONTROLLER}", DaemonSet)
    leads = _image(controller.spec.template.spec.containers) if controller is not None else wanted
    if leads != wanted:
        what = f"the controller is of the image {leads}, the agents are of {wanted}"
        found.append(Skew(what, "kubectl apply --server-side -k manifests", wrong=False))
    return found


async def _judged(requests: Requests, kind: type[Resource]) -> list[Skew]:
    definition = await requests.read(path(kind), Definition)
    name = kind.KIND.full_name
    if definition is None:
        return [Skew(f"the API has no {name}", _APPLY)]
    missing = lacking(kind, definition)
    if not missing:
        return []
    shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
    return [Skew(f"the definition {name} is older than this program: what it writes in {shown} is lost", _APPLY)]


def _image(containers: Sequence[Container]) -> str:
    return containers[0].image if containers else ""
