"""The API server of a cluster asked without kubectl, which takes a tenth of a second of a processor each time."""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kube.whole import addresses
from tests.kube.whole.machine import Machine

_ANSWER_S = 30.0
Document = dict[str, Any]


class _Connection(http.client.HTTPSConnection):
    """One whose socket is made in a machine's network."""

    def __init__(self, machine: Machine, tls: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", addresses.API_PORT, timeout=_ANSWER_S, context=tls)
        self._machine = machine
        self._tls = tls

    def connect(self) -> None:
        plain = self._machine.inside(lambda: socket.create_connection((self.host, self.port), _ANSWER_S))
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


class Api:
    """Asks as the administrator, from the fabric."""

    def __init__(self, fabric: Machine, authority: Path, token: str) -> None:
        self._fabric = fabric
        self._authority = authority
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(
        self, verb: str, path: str, sent: object = None, *, media: str = "application/json"
    ) -> tuple[int, Document | str]:
        """A request: the status, and the answer, decoded if it is JSON."""
        body = None if sent is None else json.dumps(sent)
        connection = _Connection(self._fabric, ssl.create_default_context(cafile=str(self._authority)))
        try:
            connection.request(verb, path, body, {**self._headers, "Content-Type": media})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.getheader("Content-Type") == "application/json":
            return answer.status, json.loads(content)
        return answer.status, content.decode()

    def get(self, path: str) -> Document:
        """An object or a list that is there."""
        status, found = self.ask("GET", path)
        if status != http.client.OK or not isinstance(found, dict):
            raise AssertionError(f"GET {path}: {status} {found}")
        return found

    def items(self, path: str) -> list[Document]:
        """What a list has."""
        return list(self.get(path)["items"])

    def merge(self, path: str, change: Mapping[str, object]) -> None:
        """Change an object by a merge patch."""
        status, answer = self.ask("PATCH", path, change, media="application/merge-patch+json")
        if status != http.client.OK:
            raise AssertionError(f"PATCH {path}: {status} {answer}")

    def ready(self) -> bool:
        """Whether it serves, and says that it is ready."""
        try:
            return self.ask("GET", "/readyz")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
