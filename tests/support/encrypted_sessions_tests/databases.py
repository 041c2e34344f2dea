"""Databases of a worker's own in the servers that all workers share."""

from __future__ import annotations

from sqlalchemy import create_engine, make_url


def new_postgres_database(url: str, name: str) -> str:
    """The URL of a new, empty database in the PostgreSQL server of a URL."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0")
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def new_mariadb_database(url: str, name: str) -> str:
    """The URL of a new, empty database in the MariaDB server of a URL."""
    engine = create_engine(make_url(url))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)
