"""Databases with a server: SQLAlchemySession's rows in any of them, and whole stores in PostgreSQL."""

from __future__ import annotations

from ..descriptor import StoreDescriptor

__all__ = ["SQL"]

SQL = StoreDescriptor(
    name="sql",
    rows={
        "agents.extensions.memory.sqlalchemy_session.SQLAlchemySession": f"{__name__}.rows:SQLAlchemyRows",
    },
    schemes=("postgresql", "postgres"),
    takes_drivers=True,
    whole=f"{__name__}.whole:open_postgresql",
    url_form="postgresql://user@host/database",
    url_example="postgresql://user@host/name",
)
