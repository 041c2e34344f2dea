"""Tables in MariaDB: those of docs/mysql.md, and such as people make by hand; looked into past the SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import make_url

from .documents import ROOT, blocks

PAGE = ROOT / "docs" / "mysql.md"


def documented_tables(sessions: str = "agent_sessions", messages: str = "agent_messages") -> list[str]:
    """The two statements of docs/mysql.md, for tables with these names."""
    statements = [block.text.rstrip().removesuffix(";") for block in blocks(PAGE, "sql")[:2]]
    return [one.replace("agent_sessions", sessions).replace("agent_messages", messages) for one in statements]


def make_tables(url: str, sessions: str, messages: str) -> None:
    """The tables of docs/mysql.md, unless they are there."""
    with connected(url) as cursor:
        cursor.execute("SHOW TABLES LIKE %s", (messages.replace("_", r"\_"),))
        if not cursor.fetchall():
            for statement in documented_tables(sessions, messages):
                cursor.execute(statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))


@contextlib.contextmanager
def connected(url: str) -> Iterator[Any]:
    """A cursor that sees what really lies there; each statement is a transaction of its own."""
    import pymysql

    at = make_url(url)
    connection = pymysql.connect(
        host=at.host, port=at.port, user=at.username, password=at.password or "", database=at.database, autocommit=True
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor
