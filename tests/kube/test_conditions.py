"""What a pool's status says on a real API server: of which spec it is, as kubectl's users compare it."""

from typing import Any

from controller.pools import tell_usage
from controller.view import View
from datastore.kubernetes.store import KubernetesStore
from datastore.resources.ippool import IPPool, IPPoolSpec
from datastore.resources.value import Metadata
from tests.kube.apiserver import ApiServer

POOL = "/apis/tortie.dev/v1/ippools/p"


async def told(store: KubernetesStore, server: ApiServer) -> dict[str, Any]:
    """The pool once a controller has counted."""
    view = View()
    view.told(IPPool)[0]((await store.list(IPPool)).items)
    await tell_usage(store, view)
    code, found = server.ask("GET", POOL)
    assert code == 200, found
    return dict(found)


async def test_status_and_condition_say_which_spec_they_are_of(store: KubernetesStore, server: ApiServer) -> None:
    made = await store.create(IPPool(metadata=Metadata(name="p"), spec=IPPoolSpec(cidr="10.65.0.0/16")))
    first = await told(store, server)
    assert first["status"]["observedGeneration"] == first["metadata"]["generation"] == 1
    server.ask("PATCH", POOL, {"spec": {"natOutgoing": True}}, content="application/merge-patch+json")
    _, behind = server.ask("GET", POOL)
    assert behind["status"]["observedGeneration"] < behind["metadata"]["generation"]
    now = await told(store, server)
    ready, effective = now["status"]["conditions"]
    assert (ready["type"], effective["type"]) == ("Ready", "Effective")
    assert effective["observedGeneration"] == ready["observedGeneration"]
    assert ready["observedGeneration"] == now["status"]["observedGeneration"] == now["metadata"]["generation"] == 2
    assert ready["lastTransitionTime"] == first["status"]["conditions"][0]["lastTransitionTime"]
    assert made.metadata.generation == 1
