"""Tables in MariaDB: those of docs/mysql.md, and such as people make by hand; looked into past the SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from .documents import ROOT, blocks

if TYPE_CHECKING:
    from .stores import StoreLocation

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


def make_loose_tables(place: StoreLocation, id_type: str, *, data: str = "LONGTEXT", engine: str = "InnoDB") -> None:
    """Tables as people make them by hand."""
    with connected(place.where) as cursor:
        for statement in documented_tables(place.sessions_table, place.messages_table):
            loose = statement.replace("VARBINARY(255)", id_type).replace("ENGINE=InnoDB", f"ENGINE={engine}")
            cursor.execute(loose.replace("LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", data))


def contents(url: str, tables: Sequence[str]) -> list[bytes]:
    """Every value in these tables."""
    with connected(url) as cursor:
        found: list[Any] = []
        for table in tables:
            cursor.execute(f"SELECT * FROM {table}")  # noqa: S608 - made in stores.StoreLocation
            found += [value for row in cursor for value in row]
    return [value if isinstance(value, bytes) else str(value).encode() for value in found]


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
