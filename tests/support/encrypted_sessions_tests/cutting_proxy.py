"""A proxy between a client and a server, which cuts the connection at a chosen request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

Moment = Literal["before", "after"]


class CuttingProxy:
    """Forwards everything, until a request comes that holds the mark.

    It is cut off "before" it reaches the server, or "after" the server has answered, with the
    answer lost. That happens once for each call of `cut()`.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.cuts = 0
        self._server_port = port
        self._mark = b""
        self._moment: Moment = "before"
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, moment: Moment, mark: bytes) -> None:
        self._moment, self._mark = moment, mark

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        answers = asyncio.create_task(self._pass_on(server, to_client))
        self._tasks.add(answers)
        try:
            while data := await client.read(65_536):
                if self._mark and self._mark in data:
                    self._mark = b""
                    self.cuts += 1
                    answers.cancel()
                    await asyncio.wait([answers])
                    if self._moment == "after":
                        to_server.write(data)
                        await to_server.drain()
                        await server.read(65_536)
                    break
                to_server.write(data)
                await to_server.drain()
        finally:
            answers.cancel()
            to_server.close()
            to_client.close()

    async def _pass_on(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await server.read(65_536):
                to_client.write(data)
                await to_client.drain()
        to_client.close()

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._serve(client, to_client)


@contextlib.asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[CuttingProxy]:
    """A proxy to a port of this machine, on a free port of its own."""
    proxy = CuttingProxy(port)
    listener = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        for task in proxy._tasks:
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
        await listener.wait_closed()
