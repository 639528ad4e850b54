"""A TCP proxy that misbehaves on demand: delay, thin pipe, drip, silence, reset.

It runs an event loop in its own thread; every attribute may be changed from a test at any
time and applies to the next piece of data. What it cannot do is delay the TCP handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TcpProxy"]

#: SO_LINGER on, 0 s: closing sends a reset instead of a goodbye.
_RESET = struct.pack("ii", 1, 0)


@attrs.define(eq=False)
class TcpProxy:
    """Forwards connections to one port of this machine.

    Attributes:
        upstream: port the real server listens on.
        latency: seconds each piece of data is late.
        jitter: seconds the latency varies up or down.
        bandwidth: bytes per second towards the server; 0 is unlimited.
        drip: seconds between single bytes towards the client; 0 sends all at once.
        mute_requests: hold back what clients send.
        mute_requests_after: do so once this many more bytes went through; None is never.
        mute_replies: hold back what the server answers; requests still arrive.
        reset_after: reset every connection once this many request bytes went through.
    """

    upstream: int
    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float = 0.0
    drip: float = 0.0
    mute_requests: bool = False
    mute_requests_after: int | None = None
    mute_replies: bool = False
    reset_after: int | None = None
    port: int = attrs.field(default=0, init=False)
    connections: int = attrs.field(default=0, init=False)
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop, init=False)
    _writers: set[asyncio.StreamWriter] = attrs.field(factory=set, init=False)

    @contextlib.contextmanager
    def running(self) -> Iterator[TcpProxy]:
        """Serve for the length of a block."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._run(self._finish(server))
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(5)
            self._loop.close()

    @property
    def open(self) -> int:
        """Connections that both ends still hold."""
        return len(self._writers) // 2

    def reset(self) -> None:
        """Reset all connections, both sides, as a crashed host or a firewall would."""
        self._loop.call_soon_threadsafe(self._reset)

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _finish(self, server: asyncio.Server) -> None:
        server.close()
        self._reset()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reset(self) -> None:
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                self._requests(reader, up_writer), self._replies(up_reader, writer)
            )
        for end in (writer, up_writer):
            self._writers.discard(end)
            end.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16_384):
            await self._late()
            await self._while_muted("mute_requests")
            if self.bandwidth:
                await asyncio.sleep(len(data) / self.bandwidth)
            writer.write(data)
            await writer.drain()
            self._count(len(data))
        self._writers.discard(writer)
        writer.close()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16_384):
            await self._late()
            await self._while_muted("mute_replies")
            for piece in self._pieces(data):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.drip)
        writer.close()

    def _pieces(self, data: bytes) -> list[bytes]:
        return [data[n : n + 1] for n in range(len(data))] if self.drip else [data]

    def _count(self, size: int) -> None:
        if self.mute_requests_after is not None:
            self.mute_requests_after -= size
            if self.mute_requests_after <= 0:
                self.mute_requests_after, self.mute_requests = None, True
        if self.reset_after is not None:
            self.reset_after -= size
            if self.reset_after <= 0:
                self.reset_after = None
                self._reset()

    async def _late(self) -> None:
        if self.latency:
            await asyncio.sleep(max(0.0, self.latency + random.uniform(-1, 1) * self.jitter))

    async def _while_muted(self, flag: str) -> None:
        while getattr(self, flag):  # noqa: ASYNC110 - tests set plain attributes, from any thread
            await asyncio.sleep(0.005)
