"""The listener: answers leave at once."""

from __future__ import annotations

import asyncio
import socket

from batchyard_gateway.app import listen


async def test_small_answers_do_not_wait_for_the_last_one_to_be_acknowledged() -> None:
    """Head and body are two writes; with Nagle's algorithm the second waited 40 ms for the client."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: socket.socket = writer.get_extra_info("socket")
        accepted.set_result(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen("127.0.0.1:0") as listener:
        async with await asyncio.start_server(look, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            assert await accepted != 0
            writer.close()
            await writer.wait_closed()
