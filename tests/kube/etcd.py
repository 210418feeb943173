"""One etcd for a control plane: memory-fast (no fsync), on a free port, and asked through its JSON gateway."""

import base64
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast

from tests.kube.programs import ETCD
from tests.kube.server import Server, free_port

_ANSWER_S = 10


class Etcd:
    """Made stopped; `server.start()`."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.port = free_port()
        peer = f"http://127.0.0.1:{free_port()}"
        command = (
            *(ETCD, "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *(
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                f"default={peer}",
            ),
            *flags,
        )
        self.server = Server(command, folder / "etcd.log", self._healthy)

    @property
    def url(self) -> str:
        """Where it serves clients."""
        return f"http://127.0.0.1:{self.port}"

    def revision(self) -> int:
        """Of the whole store: what the API calls resourceVersion."""
        key = base64.b64encode(b"-").decode()
        return int(self._ask("/v3/kv/range", {"key": key})["header"]["revision"])

    def compact(self, revision: int) -> None:
        """Forget what was before `revision`; if that is forgotten already, nothing happens."""
        try:
            self._ask("/v3/kv/compaction", {"revision": str(revision), "physical": False})
        except urllib.error.HTTPError as error:
            with error:
                if b"has been compacted" not in error.read():
                    raise

    def _healthy(self) -> bool:
        try:
            return self.revision() > 0
        except OSError:
            return False

    def _ask(self, path: str, question: object) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, json.dumps(question).encode())  # noqa: S310
        with _DIRECT.open(request, timeout=_ANSWER_S) as answer:
            return cast("dict[str, Any]", json.load(answer))


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
