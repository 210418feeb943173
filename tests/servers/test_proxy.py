"""The proxy itself: what it forwards, and what it does to connections."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.servers.proxy import Proxy, proxied

PATIENCE_S = 10.0


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Before a server that echoes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(100):
                writer.write(chunk)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with proxied(server.sockets[0].getsockname()[1]) as made:
        yield made
    server.close()


async def ask(proxy: Proxy, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(text)
    return reader, writer


async def test_bytes_go_both_ways(proxy: Proxy) -> None:
    reader, writer = await ask(proxy, b"hello")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readexactly(5) == b"hello"
    writer.close()
    assert proxy.connections == 1


async def test_a_cut_resets_what_there_is_and_takes_new_ones(proxy: Proxy) -> None:
    reader, writer = await ask(proxy, b"x")
    async with asyncio.timeout(PATIENCE_S):
        await reader.readexactly(1)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        again, another = await ask(proxy, b"y")
        assert await again.readexactly(1) == b"y"
    writer.close()
    another.close()


async def test_an_answer_may_be_lost(proxy: Proxy) -> None:
    seen: list[bytes] = []
    proxy.on_answer = seen.append
    proxy.lose_answers = True
    reader, writer = await ask(proxy, b"lost")
    async with asyncio.timeout(PATIENCE_S):
        while not seen:
            await asyncio.sleep(0.01)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    writer.close()


async def test_bytes_wait_while_it_stalls(proxy: Proxy) -> None:
    proxy.stall = True
    reader, writer = await ask(proxy, b"late")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.readexactly(4)
    proxy.stall = False
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readexactly(4) == b"late"
    writer.close()


async def test_it_may_refuse(proxy: Proxy) -> None:
    proxy.refuse = True
    async with asyncio.timeout(PATIENCE_S):
        reader, _ = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
