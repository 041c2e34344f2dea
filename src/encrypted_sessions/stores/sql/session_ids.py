"""Which sessions a database has, in the order of the bytes of their ids, whatever its collation."""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

from sqlalchemy import TextClause, text

from ..tables import Tables, quoted

__all__ = ["SessionIds", "facts_of_sessions"]

#: Whether ids are kept in the order of their bytes, so that their index serves; and whether each message has its
#: session in the other table, which the foreign key that the SDK makes sees to.
facts_of_sessions = text(
    "SELECT (SELECT collname IN ('C', 'POSIX') OR (collname = 'default' AND (SELECT datcollate IN ('C', 'POSIX')"
    " FROM pg_database WHERE datname = current_database())) FROM pg_attribute"
    " JOIN pg_collation ON pg_collation.oid = attcollation"
    " WHERE attrelid = to_regclass(:sessions) AND attname = 'session_id'),"
    " EXISTS (SELECT FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attname = 'session_id'"
    " WHERE contype = 'f' AND convalidated AND conrelid = to_regclass(:messages)"
    " AND confrelid = to_regclass(:sessions) AND conkey = ARRAY[attnum])"
)

_SURROGATES = range(0xD800, 0xE000)
_LAST = 0x10FFFF


class SessionIds:
    """The statements that give pages of ids."""

    def __init__(self, tables: Tables, *, is_bytewise: bool, has_all: bool) -> None:
        # A colon would begin the name of a value.
        messages, sessions = (quoted(name).replace(":", "\\:") for name in (tables.messages, tables.sessions))
        self._id = "session_id" if is_bytewise else 'session_id COLLATE "C"'
        self._source = f"{sessions} WHERE true"
        if not has_all:
            # From one id to the next by the index of messages, never row by row.
            following = f"SELECT session_id FROM {messages} WHERE session_id > step.id ORDER BY session_id LIMIT 1"
            self._source = (
                "(WITH RECURSIVE step(id) AS ("
                f"(SELECT session_id FROM {messages} WHERE session_id IS NOT NULL ORDER BY session_id LIMIT 1)"
                f" UNION ALL SELECT ({following}) FROM step WHERE step.id IS NOT NULL)"
                " SELECT id AS session_id FROM step WHERE id IS NOT NULL"
                f" UNION SELECT session_id FROM {sessions}) AS known WHERE true"
            )

    def page(self, prefix: str, after: str | None) -> tuple[TextClause, dict[str, str]]:
        """The statement of the ids that begin with `prefix` and come after `after`, and its values but `:count`."""
        conditions, values = [f"{self._id} ^@ :prefix", f"{self._id} >= :first"], {"prefix": prefix, "first": prefix}
        end = _first_after(prefix)
        if end is not None:
            conditions.append(f"{self._id} < :end")
            values["end"] = end
        if after is not None:
            conditions.append(f"{self._id} > :after")
            values["after"] = after
        condition = " AND ".join(conditions)
        statement = f"SELECT session_id FROM {self._source} AND {condition} ORDER BY {self._id} LIMIT :count"
        return text(statement), values


def _first_after(prefix: str) -> str | None:
    """The least text that comes after everything that begins with `prefix`, by bytes; None where there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at]) + 1
        if code in _SURROGATES:
            code = _SURROGATES.stop
        if code <= _LAST:
            return prefix[:at] + chr(code)
    return None
