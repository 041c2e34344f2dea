"""The SQL that PostgreSQL runs over one pair of tables, with named values and arrays of them."""
# ruff: noqa: S608  # a table's name cannot be a parameter: it is checked and quoted

from __future__ import annotations

from sqlalchemy import TextClause, text

from ..blocks import SIZE
from ..tables import Tables, quoted
from ..whole import HAS_NULL

__all__ = ["PART", "Statements"]

#: The most messages that one step of erasing removes before the last.
PART = 5_000

# Arrays taken apart in a list of results: behind FROM each text would be put aside first.
_READ = "unnest(CAST(:ids AS bigint[])) AS id, unnest(CAST(:old AS text[])) AS old"
_IDS = "id BETWEEN CAST(:first AS bigint) AND CAST(:last AS bigint)"
# The text itself is compared, byte by byte whatever the column's collation, and NULL as an empty one. The number of the
# transaction that wrote it (xmin) would be cheaper, and is no proof: PostgreSQL gives numbers out again after a crash
# or a failover in which commits were lost.
_AS_READ = "m.id = c.id AND COALESCE(m.message_data, '') = c.old COLLATE \"C\""
_OF_SESSIONS = "session_id = ANY(CAST(:sessions AS text[]))"
# A time without a zone is taken to be in the connection's; one with a zone stays what it is.
_TIME = "CAST(created_at AS timestamptz)"


def _position(lsn: str) -> str:
    return f"CAST(pg_wal_lsn_diff({lsn}, '0/0') AS bigint)"


class Statements:
    """Every statement, ready to run."""

    tables = text(
        "SELECT c.relname, array_agg(CAST(a.attname AS text)) FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        " WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) GROUP BY c.relname"
    )
    clock = text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS float8)")
    estimate = text("SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = to_regclass(:table)")

    # A trigger that is switched off does nothing; those of foreign keys are the SDK's own.
    side_effects = text(
        "WITH RECURSIVE parts(part) AS (SELECT CAST(to_regclass(name) AS oid)"
        " FROM unnest(CAST(:tables AS text[])) AS name"
        " UNION SELECT inhrelid FROM parts JOIN pg_inherits ON inhparent = part)"
        " SELECT what, name, relname FROM ("
        "SELECT part, 'trigger' AS what, CAST(tgname AS text) AS name FROM parts"
        " JOIN pg_trigger ON tgrelid = part AND NOT tgisinternal AND tgenabled <> 'D'"
        " UNION ALL SELECT part, 'rule', CAST(rulename AS text) FROM parts"
        " JOIN pg_rewrite ON ev_class = part AND ev_enabled <> 'D'"
        " UNION ALL SELECT part, 'generated column', CAST(attname AS text) FROM parts"
        " JOIN pg_attribute ON attrelid = part AND attgenerated <> '' AND NOT attisdropped"
        ") AS found JOIN pg_class ON pg_class.oid = part ORDER BY relname, what, name"
    )

    # What a server says of its log, beside each that follows it: a walsender, a slot, or a slot that a walsender uses.
    # The log ends where the next record would begin: with synchronous_commit off, what is committed need not have been
    # written. A slot for another database's changes has none of this one's rows. A base backup under way, and what
    # keeps the log without replaying it (pg_receivewal), are backups.
    replication = text(
        "WITH own(lsn) AS (SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn() END)"
        " SELECT substr(pg_walfile_name(own.lsn), 1, 8) AS timeline,"
        f" {_position('own.lsn')} AS log_end, CAST(current_setting('wal_block_size') AS int) AS page, found.*"
        " FROM own LEFT JOIN (SELECT sender.pid, CAST(sender.application_name AS text) AS application,"
        " host(sender.client_addr) AS address, sender.state, CAST(slot.slot_name AS text) AS slot,"
        f" slot.slot_type, {_position('sender.replay_lsn')} AS replayed,"
        f" {_position('slot.confirmed_flush_lsn')} AS confirmed"
        " FROM pg_stat_replication AS sender FULL JOIN pg_replication_slots AS slot ON slot.active_pid = sender.pid"
        " WHERE (slot.database IS NULL OR slot.database = current_database())"
        " AND sender.state IS DISTINCT FROM 'backup' AND (slot.slot_type = 'logical' OR sender.write_lsn IS NULL"
        " OR sender.replay_lsn IS NOT NULL)) AS found ON true"
    )

    def __init__(self, tables: Tables) -> None:
        # A colon would begin the name of a value.
        messages, sessions = (quoted(name).replace(":", "\\:") for name in (tables.messages, tables.sessions))
        # PostgreSQL knows times without an end, which no clock shows. date_part is sooner done than extract,
        # which gives a numeric.
        time = f"CASE WHEN isfinite(created_at) THEN date_part('epoch', {_TIME}) END"
        session = "session_id = :session"
        in_order = f"{_TIME}, id"
        self.count = text(f"SELECT count(*) FROM {messages}")
        within = f"FROM {messages} WHERE {_IDS}"
        self.look = text(
            f"SELECT (SELECT min(id) {within}), (SELECT max(id) {within}),"
            f" (SELECT count(*) FROM (SELECT id {within} ORDER BY id LIMIT {SIZE + 1}) AS a_few)"
        )
        by_id = _page(messages, time, _IDS, "id")
        self.rows = text(by_id)
        # The first row that begins otherwise ends the look; in order, so that the index is used. Where there is
        # none, one row comes, with a number and no session.
        self.rows_unless = text(
            f'WITH other AS (SELECT id {within} AND (message_data COLLATE "C" ^@ ANY(CAST(:openings AS text[]))'
            " IS NOT TRUE OR session_id IS NULL) ORDER BY id LIMIT 1)"
            f" ({_page(messages, time, f'{_IDS} AND EXISTS (SELECT FROM other)', 'id')})"
            f" UNION ALL SELECT count(*), NULL, NULL, NULL, NULL {within} AND NOT EXISTS (SELECT FROM other)"
            " HAVING count(*) > 0"
        )
        self.session_rows = text(_page(messages, time, session, in_order))
        after = f"({_TIME}, id) > (COALESCE(to_timestamp(CAST(:time AS float8)), 'infinity'), :id)"
        self.session_rows_after = text(_page(messages, time, f"{session} AND {after}", in_order))
        of_their_own = "AND session_id = ANY(CAST(:sessions AS text[]))"
        self.ids_of = text(f"SELECT array_agg(id ORDER BY id) FROM {messages} WHERE {_OF_SESSIONS}")
        self.with_ids = text(_page(messages, time, f"id = ANY(CAST(:ids AS bigint[])) {of_their_own}", "id"))
        # A look for each, by the index: planners like to read a whole table for EXISTS.
        looks = [
            f"LEFT JOIN LATERAL (SELECT true AS found FROM {table} WHERE session_id = one LIMIT 1) AS in_{number}"
            " ON true"
            for number, table in enumerate((messages, sessions))
        ]
        self.present = text(
            f"SELECT one FROM unnest(CAST(:sessions AS text[])) AS one {' '.join(looks)} WHERE in_0.found OR in_1.found"
        )
        self.replace = _all_ids(
            f"UPDATE {messages} AS m SET message_data = c.new"
            f" FROM (SELECT {_READ}, unnest(CAST(:new AS text[])) AS new) AS c"
            f" WHERE {_AS_READ} RETURNING m.id"
        )
        self.remove = _all_ids(
            f"DELETE FROM {messages} AS m USING (SELECT {_READ}) AS c WHERE {_AS_READ} RETURNING m.id"
        )
        self.traces: dict[str, TextClause] = {
            tables.messages: text(f"SELECT count(*) FROM {messages} WHERE {_OF_SESSIONS}"),
            tables.sessions: text(f"SELECT count(*) FROM {sessions} WHERE {_OF_SESSIONS}"),
        }
        self.lock = text(f"SELECT session_id FROM {sessions} WHERE {_OF_SESSIONS} ORDER BY session_id FOR UPDATE")
        self.erase_part = text(
            f"DELETE FROM {messages} WHERE id IN (SELECT id FROM {messages} WHERE {_OF_SESSIONS} LIMIT {PART})"
        )
        self.erase: dict[str, TextClause] = {
            tables.messages: text(f"DELETE FROM {messages} WHERE {_OF_SESSIONS}"),
            tables.sessions: text(f"DELETE FROM {sessions} WHERE {_OF_SESSIONS}"),
        }


def _page(messages: str, time: str, condition: str, order: str) -> str:
    """A query of the next rows in an order: `:count` at most, and no more once those before have `:page` bytes.

    A row above `:most` bytes comes without its data. Sizes are told by what points at the data, which is not read.
    """
    large = "size > CAST(:most AS bigint)"
    taken = f"sum(CASE WHEN {large} THEN 0 ELSE size END) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING)"
    sized = f"SELECT *, COALESCE(octet_length(message_data), 0) AS size FROM {messages}"
    return (
        f"SELECT id, COALESCE(session_id, ''), CASE WHEN {large} THEN '' ELSE COALESCE(message_data, '') END, {time},"
        f" CASE WHEN session_id IS NULL OR message_data IS NULL THEN {HAS_NULL} WHEN {large} THEN size END"
        f" FROM (SELECT *, {taken} - size AS before FROM ({sized} WHERE {condition} ORDER BY {order} LIMIT :count)"
        f" AS next) AS page WHERE before < CAST(:page AS bigint) ORDER BY {order}"
    )


def _all_ids(change: str) -> TextClause:
    """A change that gives ids, as a statement that gives them in one array: one row is sooner fetched than many."""
    return text(f"WITH changed AS ({change}) SELECT array_agg(id) FROM changed")
