"""A server whose backlog is full: who connects gets no answer at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_MORE_THAN_FIT = 8


@contextmanager
def full_backlog() -> Iterator[int]:
    """The port of one on 127.0.0.1."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(_MORE_THAN_FIT):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]
