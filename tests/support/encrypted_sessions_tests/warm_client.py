"""A program that the server of warm programs runs: asked for over its socket, with the streams of who asks.

As a script it stands for that program in a shell: `python -IS warm_client.py SOCKET MODULE WORD...`. It begins in
hundredths of a second, so it imports next to nothing.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence

__all__ = ["ask"]


def ask(
    path: str, words: Sequence[str], streams: Sequence[int], environment: Mapping[str, str], folder: str
) -> socket.socket:
    """Have a module run with these words. Over the connection come a line with its pid, and one with how it ended."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    socket.send_fds(connection, [b"."], list(streams))
    connection.sendall(json.dumps({"words": list(words), "folder": folder, "environment": dict(environment)}).encode())
    connection.shutdown(socket.SHUT_WR)
    return connection


if __name__ == "__main__":
    _, path, *words = sys.argv
    with ask(path, words, [0, 1, 2], os.environ, os.getcwd()) as connection, connection.makefile() as answers:  # noqa: PTH109 - pathlib takes as long to import as all of this
        answers.readline()
        sys.exit(int(answers.readline()) % 256)
