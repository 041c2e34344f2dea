"""How the two tables in MySQL or MariaDB were made: what they compare, what they would cut off, and what mends them.

Everybody makes these by hand, since the SDK cannot. They are looked at once for each engine and pair of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import text

from ...errors import StoreError
from ..rows import Problem

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine, Row
    from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["MySQLTables", "known_tables", "tables_of"]

_COLUMNS = text(
    "SELECT c.table_name AS table_name, c.column_name AS column_name, c.data_type AS type,"
    " c.character_set_name AS charset, c.collation_name AS collation, c.character_maximum_length AS most_characters,"
    " c.character_octet_length AS most_bytes, e.transactions AS transactions, t.engine AS engine,"
    " @@max_allowed_packet AS packet"
    " FROM information_schema.columns c"
    " JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
    " LEFT JOIN information_schema.engines e ON e.engine = t.engine"
    " WHERE c.table_schema = DATABASE() AND c.table_name IN (:sessions, :messages)"
    " AND c.column_name IN ('session_id', 'message_data', 'created_at')"
)
_FOREIGN_KEYS = text(
    "SELECT constraint_name AS name FROM information_schema.key_column_usage"
    " WHERE table_schema = DATABASE() AND table_name = :messages AND referenced_table_name = :sessions"
    " AND column_name = 'session_id'"
)

#: What a statement has besides the rows that it adds.
_STATEMENT_BYTES = 4096

#: What a driver puts a backslash before.
_ESCAPED = "\"'\\"

#: As long as an id of 255 characters can be, and not too long for an index.
_ID_BYTES = (255, 1020)

#: Character sets in which a character has the bytes that it has in UTF-8.
_LIKE_UTF8 = ("utf8mb4", "utf8mb3", "utf8", "ascii")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _Column(NamedTuple):
    table: str
    type: str
    charset: str
    collation: str
    most_characters: int
    most_bytes: int

    @property
    def is_binary(self) -> bool:
        """Whether it compares bytes, trailing spaces perhaps left out."""
        return self.type in ("varbinary", "binary") or self.collation.endswith("_bin")

    @property
    def is_bytewise(self) -> bool:
        """Whether it compares bytes, all of them."""
        return self.is_binary and (not self.collation or "nopad" in self.collation or "_0900_" in self.collation)

    def problem_with(self, session_id: str) -> str | None:
        """Why it would not keep this id as it is. Where sql_mode is not strict, that would happen in silence."""
        is_bytes = self.type in ("varbinary", "binary")
        size = len(session_id.encode() if is_bytes else session_id)
        if self.most_characters and size > self.most_characters:
            return f"it holds {self.most_characters} {'bytes' if is_bytes else 'characters'}, but the id has {size}"
        if self.type == "char" and session_id.endswith(" "):
            return "a CHAR loses spaces at the end"
        if self.type == "binary" and size < self.most_bytes:
            return f"a BINARY pads values of fewer than {self.most_bytes} bytes"
        if self.type == "uuid" and not _UUID.fullmatch(session_id):
            return "a UUID is returned in lower case, with hyphens"
        return None


class MySQLTables(NamedTuple):
    """What is known of the two tables; of those that are not there, that anything may be wrong."""

    ids: Mapping[str, _Column] = MappingProxyType({})
    keep_text: bool = True
    keep_instants: bool = False
    most_bytes: int = 2**32
    packet: int = 2**32
    problems: Sequence[Problem] = ()

    @property
    def are_there(self) -> bool:
        """Whether they were found."""
        return bool(self.ids)

    def compare_bytewise(self, table: str) -> bool:
        """Whether the ids of this table are compared by all of their bytes."""
        return table in self.ids and self.ids[table].is_bytewise

    def refuse_id(self, session_id: str) -> None:
        """Raise StoreError if the tables would not keep this id as it is."""
        for name, column in self.ids.items():
            problem = column.problem_with(session_id)
            if problem:
                raise StoreError(
                    f"the column session_id of {name} cannot hold this session's id: {problem}. docs/mysql.md"
                    " has a table that can"
                )

    def refuse_rows(self, texts: Iterable[str]) -> None:
        """Raise StoreError if one of these rows would not be kept as it is."""
        for row in texts:
            size = len(row.encode())
            if size > self.most_bytes:
                raise StoreError(
                    f"a row of {size:,} bytes does not fit into the column message_data, which"
                    f" holds {self.most_bytes:,}; nothing was written. Enlarge the column: ALTER TABLE ... MODIFY"
                    " message_data"
                    " LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
                )
            if size + sum(map(row.count, _ESCAPED)) + _STATEMENT_BYTES > self.packet:
                raise StoreError(
                    f"a row of {size:,} bytes makes a statement longer than the server's max_allowed_packet"
                    f" ({self.packet:,}); nothing was written. Raise it on the server"
                )


_known: WeakKeyDictionary[Engine, dict[tuple[str, str], MySQLTables]] = WeakKeyDictionary()


def known_tables(engine: Engine, sessions: str, messages: str) -> MySQLTables | None:
    """What was found out before by way of this engine."""
    return _known.get(engine, {}).get((sessions, messages))


async def tables_of(connection: AsyncSession, engine: Engine, sessions: str, messages: str) -> MySQLTables:
    """What these two tables are; found out once."""
    known = known_tables(engine, sessions, messages)
    if known is None:
        known = await _look(connection, sessions, messages)
        if known.are_there:
            known = _known.setdefault(engine, {}).setdefault((sessions, messages), known)
    return known


async def _look(connection: AsyncSession, sessions: str, messages: str) -> MySQLTables:
    names = {"sessions": sessions, "messages": messages}
    found = (await connection.execute(_COLUMNS, names)).all()
    columns = {(_named(row.table_name, names), _text(row.column_name).lower()): row for row in found}
    wanted = [(sessions, "session_id"), (messages, "session_id"), (messages, "message_data"), (messages, "created_at")]
    if not columns.keys() >= set(wanted):
        return MySQLTables()  # whatever is asked for next says so
    of_sessions, of_messages, data, created_at = (columns[one] for one in wanted)
    ids = {sessions: _column(of_sessions), messages: _column(of_messages)}
    problems = []
    if not all(column.is_binary for column in ids.values()):
        keys = [_text(key.name) for key in await connection.execute(_FOREIGN_KEYS, names)]
        problems.append(Problem(_of_ids(sessions, messages, ids, keys)))
    without = [name for name, row in ((sessions, of_sessions), (messages, data)) if _text(row.transactions) == "NO"]
    if without:
        problems.append(Problem(_of_engines(without, _text(data.engine))))
    keeps = _column(data)
    return MySQLTables(
        ids,
        keep_text=bool(keeps.charset) or keeps.type == "json",
        keep_instants=_text(created_at.type) == "timestamp",
        most_bytes=min(keeps.most_characters, keeps.most_bytes) or 2**32,
        packet=int(data.packet),
        problems=tuple(problems),
    )


def _text(value: object) -> str:
    """What information_schema gives as text, or as bytes, or not at all."""
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)


def _named(name: object, wanted: Mapping[str, str]) -> str:
    """The name by which a table was asked for; the server may have it in small letters."""
    found = _text(name)
    if found in wanted.values():
        return found
    return next((one for one in wanted.values() if one.lower() == found.lower()), found)


def _column(row: Row[tuple[object, ...]]) -> _Column:
    return _Column(
        _text(row.table_name),
        _text(row.type).lower(),
        _text(row.charset).lower(),
        _text(row.collation).lower(),
        int(row.most_characters or 0),
        int(row.most_bytes or 0),
    )


# -- What is told, and what mends it --------------------------------------------------------------


def _of_ids(sessions: str, messages: str, ids: Mapping[str, _Column], foreign_keys: Sequence[str]) -> str:
    loose = ", ".join(
        f"{name}.session_id ({column.collation or column.type})" for name, column in ids.items() if not column.is_binary
    )
    return (
        f"the column {loose} is not binary: the database may treat ids as equal that differ only in upper and"
        " lower case, accents or trailing spaces. This wrapper still reads, removes and clears only rows of exactly"
        " its id; but clear_session() of the unwrapped session also removes rows of the other ids. Stop everything"
        " that writes to these tables, and make the columns binary (docs/mysql.md):\n"
        + "\n".join(f"    {statement};" for statement in _cure(sessions, messages, ids, foreign_keys))
    )


def _cure(sessions: str, messages: str, ids: Mapping[str, _Column], foreign_keys: Sequence[str]) -> Iterable[str]:
    to, of = _quoted(sessions), _quoted(messages)
    size = max(_ID_BYTES[0], *(min(column.most_bytes, _ID_BYTES[1]) for column in ids.values()))
    for name in foreign_keys:
        yield f"ALTER TABLE {of} DROP FOREIGN KEY {_quoted(name)}"
    for name, column in ids.items():
        if column.charset and column.charset not in _LIKE_UTF8:
            characters = f"VARCHAR({min(column.most_characters, 255)}) CHARACTER SET utf8mb4"
            yield f"ALTER TABLE {_quoted(name)} MODIFY session_id {characters} NOT NULL"
    for table in (of, to):
        yield f"ALTER TABLE {table} MODIFY session_id VARBINARY({size}) NOT NULL"
    if foreign_keys:
        missing = f"SELECT DISTINCT session_id FROM {of} WHERE session_id NOT IN (SELECT session_id FROM {to})"  # noqa: S608 - names are quoted
        yield f"INSERT INTO {to} (session_id) {missing}"
        yield f"ALTER TABLE {of} ADD FOREIGN KEY (session_id) REFERENCES {to} (session_id) ON DELETE CASCADE"


def _of_engines(tables: Sequence[str], engine: str) -> str:
    return (
        f"{' and '.join(tables)} do not support transactions ({engine}): a failed change can remain half-done,"
        " and two processes can pop the same item. "
        + " ".join(f"ALTER TABLE {_quoted(name)} ENGINE=InnoDB;" for name in tables)
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
