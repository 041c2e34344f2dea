"""A keyset in a database of another machine: nobody on the way may change it."""

from __future__ import annotations

import pytest

from keyproviders import ProviderConfigError, open_keyset
from keyproviders.keyset import SqlKeysetStore

CLEAR = [
    "postgresql://me:word@db.example/agents",
    "postgresql+asyncpg://me:word@db.example:5432/agents?ssl=prefer",
    "postgresql://db.example/agents?sslmode=prefer",
    "postgresql:///agents?host=db.example",
    "postgresql:///agents?host=127.0.0.1,db.example",
    "postgresql://10.0.0.1/agents?sslmode=disable",
    "mysql://me:word@db.example/agents",
    "mysql+aiomysql://db.example/agents",
]
SAFE = [
    "postgresql://me:word@db.example/agents?sslmode=require",
    "postgresql+asyncpg://db.example/agents?ssl=verify-full",
    "postgresql://localhost/agents",
    "postgresql://127.0.0.1:5432/agents",
    "postgresql://[::1]/agents",
    "postgresql:///agents",
    "postgresql:///agents?host=/var/run/postgresql",
    "mysql://db.example/agents?ssl_ca=/etc/ca.pem",
    "mysql://localhost/agents",
    "sqlite:////tmp/keysets.db",
]


@pytest.fixture(autouse=True)
def _no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("dsn", CLEAR)
def test_a_database_off_loopback_without_tls_is_refused_unless_code_allows_it(dsn: str, monkeypatch):
    with pytest.raises(ProviderConfigError, match=r"on another machine.*does not require TLS") as caught:
        SqlKeysetStore(dsn)
    assert "word" not in str(caught.value)
    monkeypatch.setenv("DSN_OF_THE_TEST", dsn)
    with pytest.raises(ProviderConfigError, match="does not require TLS"):
        open_keyset("aws-kms:alias/a?keyset=sql&dsn_env=DSN_OF_THE_TEST")
    with pytest.warns(UserWarning, match=r"allow_insecure=True: .*does not require TLS"):
        SqlKeysetStore(dsn, allow_insecure=True)
    with pytest.warns(UserWarning, match="does not require TLS"):
        open_keyset("aws-kms:alias/a?keyset=sql&dsn_env=DSN_OF_THE_TEST", allow_insecure=True)


@pytest.mark.parametrize("dsn", SAFE)
def test_one_on_this_machine_or_with_tls_is_taken(dsn: str):
    SqlKeysetStore(dsn)


def test_what_is_strict_wants_the_server_verified(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENCRYPTED_SESSIONS_STRICT", "1")
    with pytest.raises(ProviderConfigError, match="sslmode=verify-full"):
        SqlKeysetStore("postgresql://db.example/agents?sslmode=require")
    SqlKeysetStore("postgresql://db.example/agents?sslmode=verify-full")


def test_the_variables_of_libpq_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGHOST", "db.example")
    with pytest.raises(ProviderConfigError, match="does not require TLS"):
        SqlKeysetStore("postgresql:///agents")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    SqlKeysetStore("postgresql:///agents")
