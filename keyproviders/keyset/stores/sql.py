"""Keysets in an SQL database: SQLite, PostgreSQL or MariaDB. Needs the extra `[sql]` and a driver."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, ClassVar, TypeVar

from ..._support.extras import import_sdk
from ..._support.redaction import redact_frames
from ..._support.strictness import checked_allow_insecure
from ...errors import InvalidKeyError, ProviderConfigError
from ...key import try_key_text
from .base import MOST_BYTES, Note, StoredKeyset
from .sql_database import Database
from .sql_failures import FailureKind, classify, driver_message, failure_of

__all__ = ["SqlKeysetStore"]

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")
#: As long as a primary key can be in every MariaDB that is in use, at 4 bytes a character.
_LONGEST_NAME = 190
_LONGEST_TABLE = 63
_OF_NOTES = "_changes"
_REVISION_BYTES = 16
_REVISION = re.compile(r"[0-9a-f]{32}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)

_Answer = TypeVar("_Answer")


class SqlKeysetStore:
    """Keysets in a table of their own: `SqlKeysetStore(os.environ["DATABASE_URL"])`.

    If the DSN names an asynchronous driver, as sessions use them, an installed synchronous one is used instead:
    psycopg (or psycopg2), pymysql (or mysqlclient), or Python's own for SQLite.

    The first write creates the table. Reading needs only SELECT on it, so grant a service only that. Changing a
    keyset needs INSERT and UPDATE, and creating the table needs CREATE. Each change is recorded in a second table,
    `TABLE_changes`, which is created in the same way and needs SELECT and INSERT.

    Each call opens a connection and closes it. Connecting may take 1 s (2 s in PostgreSQL's drivers) and each
    statement, including waits for locks, 2 s, whatever the DSN says. PostgreSQL itself enforces the second limit: its
    drivers do not give up an open connection that is silent.

    Args:
        dsn: A DSN of SQLAlchemy for SQLite, PostgreSQL or MariaDB, with a driver or without.
        table: The name of the table, 1 to 63 characters of `A-Z a-z 0-9 _`.
        allow_insecure: Allow a database on another machine without TLS in its DSN, with a warning.

    Raises:
        TypeError: An argument is not a str.
        ProviderConfigError: The DSN is invalid, no table can have the name, or SQLAlchemy or a driver is not
            installed.
    """

    URL_OPTIONS: ClassVar[frozenset[str]] = frozenset({"dsn_env"})
    KIND: ClassVar[str] = "an SQL database"

    @redact_frames
    def __init__(self, dsn: str, *, table: str = "encrypted_sessions_keysets", allow_insecure: bool = False) -> None:
        for name, value in (("dsn", dsn), ("table", table)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        if not _TABLE.match(table):
            raise ProviderConfigError(
                f"table is not the name of a table ({len(table)} characters); use 1 to 63 characters of A-Z"
                " a-z 0-9 _, and do not begin with a digit"
            )
        self._database = Database(dsn.strip())
        self._database.check_transport(allow_insecure=checked_allow_insecure(allow_insecure))
        self._table = _table(table)
        self._notes = _table_of_notes(f"{table[: _LONGEST_TABLE - len(_OF_NOTES)]}{_OF_NOTES}")
        self.place = f"table {table} of {self._database.label}"

    @classmethod
    @redact_frames
    def from_options(
        cls, _path: str, options: Mapping[str, str], scheme: str, *, allow_insecure: bool = False
    ) -> SqlKeysetStore:
        """The store of `keyset=sql` in a URL, whose `dsn_env` names a variable. Raises ProviderConfigError."""
        return cls(_dsn(options.get("dsn_env"), scheme), allow_insecure=allow_insecure)

    @redact_frames
    def read(self, name: str) -> StoredKeyset | None:
        """As `KeysetStore.read`. Also None if there is no table yet."""
        _check_name(name)
        columns = self._table.c
        # No more than can be meant: somebody else may write there, too.
        substr = import_sdk("sqlalchemy", "sql").func.substr
        document = substr(columns.document, 1, MOST_BYTES + 1)
        revision = substr(columns.revision, 1, 2 * _REVISION_BYTES + 1)
        query = self._table.select().with_only_columns(document, revision).where(columns.name == name)
        action = f"reading the keyset {name!r} from {self.place}"
        if not self._database.is_there():
            return None
        row, kind = self._execute(action, lambda connection: connection.execute(query).first(), expected=("no table",))
        if kind is not None or row is None:
            return None
        text, revision = row
        if not isinstance(text, str) or not isinstance(revision, str) or not _REVISION.match(revision):
            raise InvalidKeyError(
                f"{action}: what is stored was not written by this library; restore the last good copy"
            )
        return StoredKeyset(text, revision)

    @redact_frames
    def write(self, name: str, text: str, *, expected: str | None) -> bool:
        """As `KeysetStore.write`. After a KeyUnavailableError, either text may be stored.

        Raises ValueError for a text that is not ASCII or is too long.
        """
        _check_name(name)
        _check_text(text)
        if expected is not None and not isinstance(expected, str):
            raise TypeError(f"expected must be a str or None, not {type(expected).__name__}")
        now = datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None)
        # Drawn anew, so that a keyset that was deleted and made again never has a revision of the old one.
        row = {"document": text, "revision": secrets.token_hex(_REVISION_BYTES), "updated_at": now}
        self._database.is_there()
        if expected is None:
            return self._insert(name, row)
        columns = self._table.c
        change = self._table.update().where(columns.name == name, columns.revision == expected).values(**row)
        changed, _ = self._execute(
            f"writing the keyset {name!r} to {self.place}",
            lambda connection: connection.execute(change).rowcount,
            writing=True,
            expected=("no table", "first"),
        )
        return changed == 1

    @redact_frames
    def note(self, name: str, notes: Sequence[Note]) -> None:
        """As `KeepsNotes.note`."""
        _check_name(name)
        action = f"noting a change of the keyset {name!r} in table {self._notes.name} of {self._database.label}"
        known = {(one.keyset_id, one.revision) for one in self.notes(name)}
        for note in notes:
            if (note.keyset_id, note.revision) in known:
                continue
            add = self._notes.insert().values(
                keyset_id=note.keyset_id,
                revision=note.revision,
                name=name,
                change=note.text,
                noted_at=datetime.now(timezone.utc).replace(microsecond=0, tzinfo=None),
            )
            for expected in (("first", "no table"), ("first",)):  # somebody else may have noted it since
                _, kind = self._execute(action, _execution_of(add), writing=True, expected=expected)
                if kind != "no table":
                    break
                self._make_table(self._notes)

    @redact_frames
    def notes(self, name: str) -> Sequence[Note]:
        """As `KeepsNotes.notes`. None if there is no table of notes yet."""
        _check_name(name)
        columns = self._notes.c
        query = (
            self._notes.select()
            .with_only_columns(columns.keyset_id, columns.revision, columns.change)
            .where(columns.name == name)
            .order_by(columns.noted_at, columns.revision)
        )
        if not self._database.is_there():
            return []
        action = f"reading the changes of the keyset {name!r} from table {self._notes.name} of {self._database.label}"
        rows, _ = self._execute(action, lambda connection: connection.execute(query).all(), expected=("no table",))
        return [Note(*row) for row in rows or ()]

    def _insert(self, name: str, row: dict[str, Any]) -> bool:
        add = self._table.insert().values(name=name, **row)
        action = f"creating the keyset {name!r} in {self.place}"
        for known in (("first", "no table"), ("first",)):
            _, kind = self._execute(action, lambda connection: connection.execute(add), writing=True, expected=known)
            if kind == "no table":
                self._make_table()
            else:
                break
        return kind is None

    def _make_table(self, table: Any = None) -> None:
        table = self._table if table is None else table
        make = import_sdk("sqlalchemy.schema", "sql").CreateTable(table, if_not_exists=True)
        # Of two that make it at once, PostgreSQL refuses one with an error of its own catalogue.
        self._execute(
            f"making the table {table.name} of {self._database.label}",
            lambda connection: connection.execute(make),
            writing=True,
            expected=("exists", "first"),
        )

    def _execute(
        self,
        action: str,
        work: Callable[[Any], _Answer],
        *,
        writing: bool = False,
        expected: tuple[FailureKind, ...] = (),
    ) -> tuple[_Answer | None, FailureKind | None]:
        """The answer of `work` in a transaction of its own, or which of the expected failures came instead.

        The error that is raised has no context: the frames of a driver hold the password.
        """
        engine = self._database.engine()
        exceptions = import_sdk("sqlalchemy.exc", "sql")
        connected = begun = False
        try:
            with engine.connect() as connection, connection.begin():
                connected = True
                for statement in self._database.before(writing=writing):
                    connection.exec_driver_sql(statement)
                begun = writing
                return work(connection), None
        except (exceptions.SQLAlchemyError, engine.dialect.loaded_dbapi.Error) as error:
            kind = classify(error, self._database.family)
            if kind in expected:
                return None, kind
            failure = failure_of(
                error, kind, action, self._database.without_password(driver_message(error)), begun=begun
            )
        except (TypeError, ValueError, AttributeError, OSError) as error:
            if connected:
                raise
            # So drivers answer to options of a DSN that they do not know, or that name a file that is not there.
            problem = self._database.without_password(f"{type(error).__name__}: {error}")
            failure = ProviderConfigError(f"{action}: the driver failed ({problem}); check the options in the DSN")
        raise failure

    def after_fork(self) -> None:
        """In a forked child: do not use the parent's connections."""
        self._database.after_fork()

    def close(self) -> None:
        """Release the connections. The store may be used again."""
        self._database.close()

    def __repr__(self) -> str:
        return f"<SqlKeysetStore {self.place}>"


def _table(name: str) -> Any:
    sqlalchemy = import_sdk("sqlalchemy", "sql")
    mysql = import_sdk("sqlalchemy.dialects.mysql", "sql")
    # MariaDB compares text without regard to case, and cuts off what is too long, unless it is told otherwise.
    exact = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
    options = {f"{family}_{option}": value for family in ("mysql", "mariadb") for option, value in _MARIADB.items()}
    return sqlalchemy.Table(
        name,
        sqlalchemy.MetaData(),
        sqlalchemy.Column(
            "name",
            sqlalchemy.String(_LONGEST_NAME).with_variant(mysql.VARCHAR(_LONGEST_NAME, **exact), "mysql", "mariadb"),
            primary_key=True,
        ),
        sqlalchemy.Column(
            "revision",
            sqlalchemy.String(2 * _REVISION_BYTES).with_variant(
                mysql.VARCHAR(2 * _REVISION_BYTES, **exact), "mysql", "mariadb"
            ),
            nullable=False,
        ),
        sqlalchemy.Column(
            "document",
            sqlalchemy.Text().with_variant(mysql.MEDIUMTEXT(**exact), "mysql", "mariadb"),
            nullable=False,
        ),
        sqlalchemy.Column("updated_at", sqlalchemy.DateTime(), nullable=False, comment="UTC"),
        **options,
    )


def _table_of_notes(name: str) -> Any:
    sqlalchemy = import_sdk("sqlalchemy", "sql")
    options = {f"{family}_{option}": value for family in ("mysql", "mariadb") for option, value in _MARIADB.items()}
    return sqlalchemy.Table(
        name,
        sqlalchemy.MetaData(),
        sqlalchemy.Column("keyset_id", sqlalchemy.String(2 * _REVISION_BYTES), primary_key=True),
        sqlalchemy.Column("revision", sqlalchemy.BigInteger(), primary_key=True, autoincrement=False),
        sqlalchemy.Column("name", sqlalchemy.String(_LONGEST_NAME), nullable=False),
        sqlalchemy.Column("change", sqlalchemy.Text(), nullable=False),
        sqlalchemy.Column("noted_at", sqlalchemy.DateTime(), nullable=False, comment="UTC"),
        **options,
    )


def _execution_of(statement: Any) -> Callable[[Any], Any]:
    return lambda connection: connection.execute(statement)


_MARIADB = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    # No spaces: MariaDB takes "a" and "a " for the same.
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or " " in name:
        raise ValueError(
            f"name must be 1 to {_LONGEST_NAME} printable characters without spaces; {len(name)} characters were"
            " given, or characters that are not allowed"
        )


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    if not text.isascii() or "\0" in text or len(text) > MOST_BYTES:
        raise ValueError(
            f"text must be ASCII without NUL, of at most {MOST_BYTES:,} characters; {len(text):,} were given"
        )


def _dsn(variable: str | None, scheme: str) -> str:
    if variable is None:
        raise ProviderConfigError(
            f"the {scheme}: URL does not say where to find the DSN of its database; put the DSN into an"
            " environment variable, and add dsn_env= with that variable's name"
        )
    if not _VARIABLE.match(variable) or try_key_text(variable)[0] is not None:
        # Not shown: this is where somebody puts the DSN itself.
        raise ProviderConfigError(
            f"dsn_env of the {scheme}: URL is not the name of a variable; put the DSN into an environment"
            " variable, and give its name"
        )
    dsn = os.environ.get(variable)
    if not dsn:
        raise ProviderConfigError(
            f"the environment variable {variable} is not set or is empty; set it to the DSN of the keyset's database"
        )
    return dsn
