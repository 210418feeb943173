"""The Kubernetes API's side: Pods that are bound, get addresses into their status a while later, and go.

Nothing here asks ipam for anything: kubelets write what their sandboxes were told, when they come to it.
"""

from datastore.errors import StoreError
from datastore.resources.kubernetes import Pod, PodIP, PodSpec, PodStatus
from datastore.resources.value import Metadata
from tests.simulation.server import Server

NAMESPACE = "shop"


class Api:
    """Pods, written at once and by nobody else."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def bind(self, name: str, uid: str, node: str) -> None:
        """A pod is created and given to a node."""
        metadata = Metadata(name=name, namespace=NAMESPACE, uid=uid)
        pod = Pod(metadata=metadata, spec=PodSpec(node_name=node), status=PodStatus(phase="Pending"))
        if self._find(name) is None:
            self._server.now(self._server.inner.create(pod))

    def tell(self, name: str, uid: str, addresses: list[str]) -> None:
        """A kubelet says what addresses a pod has, if it is there still."""
        found = self._find(name)
        if found is None or found.metadata.uid != uid:
            return
        ips = tuple(PodIP(ip=address) for address in addresses)
        status = PodStatus(phase="Running", pod_ip=addresses[0] if addresses else "", pod_ips=ips)
        self._server.now(self._server.inner.update(Pod(metadata=found.metadata, spec=found.spec, status=status)))

    def delete(self, name: str, uid: str) -> None:
        """A pod is gone, whatever becomes of its containers."""
        found = self._find(name)
        if found is not None and found.metadata.uid == uid:
            self._server.now(self._server.inner.delete(found))

    def _find(self, name: str) -> Pod | None:
        try:
            return self._server.now(self._server.inner.get(Pod, name, NAMESPACE))
        except StoreError:
            return None
