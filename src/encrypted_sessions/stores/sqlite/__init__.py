"""Files of SQLite: the SDK's SQLite classes, and what SQLAlchemySession leaves in such a file."""

from __future__ import annotations

from ..descriptor import StoreDescriptor

__all__ = ["SQLITE"]

SQLITE = StoreDescriptor(
    name="sqlite",
    rows={
        "agents.memory.sqlite_session.SQLiteSession": f"{__name__}.rows:SQLiteRows",
        "agents.extensions.memory.async_sqlite_session.AsyncSQLiteSession": f"{__name__}.async_rows:AsyncSQLiteRows",
    },
    purged_otherwise={
        "agents.extensions.memory.advanced_sqlite_session.AdvancedSQLiteSession": (
            "the command 'encrypted-sessions purge' removes them from its file"
        ),
    },
    wrapped_by={
        "agents.extensions.memory.advanced_sqlite_session.AdvancedSQLiteSession": (
            "encrypted_sessions.advanced.EncryptedAdvancedSQLiteSession"
        ),
    },
    schemes=("sqlite",),
    takes_drivers=True,
    is_path=True,
    whole=f"{__name__}.urls:open_sqlite",
    url_form="sqlite:///relative/path.db or sqlite:////absolute/path.db",
    url_example="sqlite:///agents.db",
)
