"""What probes and Prometheus are told, over a real socket; and what isn't HTTP at all."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from monitoring.address import HttpAddress, parse
from monitoring.metrics import Metrics, Reading
from monitoring.server import MonitoringServer, Readiness


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(":9470", HttpAddress("", 9470), id="every address"),
        pytest.param("127.0.0.1:9470", HttpAddress("127.0.0.1", 9470), id="IPv4"),
        pytest.param("[::1]:1", HttpAddress("::1", 1), id="IPv6"),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, expected: HttpAddress) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "9470", "::1:9470", "[127.0.0.1]:1", "host:1", ":0", ":65536", ":x", "1.2.3:4"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        parse(text)


class Program:
    """Ready or not."""

    def __init__(self) -> None:
        self.readiness = Readiness()
        self.metrics = Metrics()
        self.server = MonitoringServer(lambda: self.readiness, self.metrics.text)

    async def ask(self, sent: bytes) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.ports[0])
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        return answer.decode()

    async def get(self, path: str) -> str:
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    made = Program()
    await made.server.start(HttpAddress("127.0.0.1", 0))
    yield made
    await made.server.close()


async def test_who_is_ready_says_so_with_warnings(program: Program) -> None:
    program.readiness = Readiness((), ("another network sorts first",))
    answer = await program.get("/readyz")
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert answer.endswith("\r\n\r\nok\nwarning: another network sorts first\n")


async def test_who_isnt_says_every_reason(program: Program) -> None:
    program.readiness = Readiness(("rules can't be applied", "no conflist"))
    answer = await program.get("/readyz?verbose")
    assert answer.startswith("HTTP/1.1 503 ")
    assert answer.endswith("\r\n\r\nrules can't be applied\nno conflist\n")
    assert (await program.get("/livez")).endswith("\r\n\r\nok\n")


async def test_metrics_are_counted_timed_and_read(program: Program) -> None:
    program.metrics.counted("tortie_calls", "Calls", "command").add("ADD")
    program.metrics.timed("tortie_call_duration_seconds", "Seconds").add(0.003)
    program.metrics.read(lambda: [Reading("tortie_blocks", "Blocks", {("a",): 2.0}, ("pool",))])
    text = await program.get("/metrics")
    for line in (
        'tortie_calls_total{command="ADD"} 1.0',
        'tortie_call_duration_seconds_bucket{le="0.005"} 1.0',
        'tortie_blocks{pool="a"} 2.0',
    ):
        assert f"{line}\n" in text


async def test_what_fails_to_be_read_fails_alone(program: Program) -> None:
    def broken() -> list[Reading]:
        raise OSError("no kernel")

    program.metrics.read(broken)
    assert (await program.get("/metrics")).startswith("HTTP/1.1 500 ")
    assert (await program.get("/livez")).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET /else HTTP/1.1\r\n\r\n", "404", id="another page"),
        pytest.param(b"POST /livez HTTP/1.1\r\n\r\n", "405", id="another verb"),
        pytest.param(b"HEAD /livez HTTP/1.1\r\n\r\n", "200", id="only the head"),
        pytest.param(b"\xff\xff\r\n\r\n", "405", id="no HTTP"),
        pytest.param(b"GET /" + b"x" * 20000 + b"\r\n\r\n", "", id="too long"),
    ],
)
async def test_whatever_is_asked_harms_nothing(program: Program, sent: bytes, status: str) -> None:
    assert (await program.ask(sent)).partition(" ")[2][:3] == status
    assert (await program.get("/livez")).startswith("HTTP/1.1 200 ")
