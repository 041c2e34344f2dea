"""Secrets and KMS keys in moto's server, each test's own, and the proxy in front of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from encrypted_sessions_tests.aws_servers import REGION, Fault, FaultProxy, client_of, moto_server
from keyproviders import Key


@pytest.fixture(autouse=True)
def _files_are_for_their_owner() -> Iterator[None]:
    """As a service that keeps keys or credentials in files has it; others are warned of."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _a_clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the credentials, the settings or the proxies of whoever runs it."""
    for name in os.environ:
        if name.startswith("AWS_") or name.upper() in {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")


@pytest.fixture(scope="session", autouse=True)
def _known_once() -> Iterator[None]:
    """What botocore works out anew for each session, though it comes out the same: 0.3 s that a test would begin with.

    That is its descriptions of AWS, the names of its events, and whether its own handlers of them take any argument.
    """
    from botocore import hooks, session

    loader = session.create_loader()
    name_of = hooks.EventAliaser._alias_event_name
    names: dict[str, str] = {}
    takes_any = cache(hooks.accepts_kwargs)

    def name_once(aliaser: Any, name: str) -> str:
        if name not in names:
            names[name] = name_of(aliaser, name)
        return names[name]

    def takes_any_once(handler: Any) -> Any:
        # A method is asked for by its function, so that no session is kept.
        return takes_any(getattr(handler, "__func__", handler))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "create_loader", lambda search_path_string=None: loader)
        patch.setattr(hooks.EventAliaser, "_alias_event_name", name_once)
        patch.setattr(hooks, "accepts_kwargs", takes_any_once)
        yield


@pytest.fixture(scope="session")
def _moto() -> Iterator[tuple[str, int]]:
    with moto_server() as address:
        yield address


@pytest.fixture
def proxy(_moto: tuple[str, int]) -> Iterator[FaultProxy]:
    made = FaultProxy(_moto)
    try:
        yield made
    finally:
        made.close()


class Secret:
    """One test's own secret, written past the proxy."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"prod/agents/{secrets.token_hex(4)}"
        self.arn = ""

    def write(self, **value: Any) -> str:
        """Store this as the newest version; gives its id."""
        if not self.arn:
            made = self.client.create_secret(Name=self.name, **value)
            self.arn = made["ARN"]
        else:
            made = self.client.put_secret_value(SecretId=self.name, **value)
        return str(made["VersionId"])

    def write_key(self) -> Key:
        key = Key.generate()
        return Key(self.write(SecretString=key.reveal_base64()), key.secret)


@pytest.fixture(scope="session")
def _client(_moto: tuple[str, int]) -> Iterator[Any]:
    client = client_of("secretsmanager", _moto)
    yield client
    client.close()


@pytest.fixture
def secret(_client: Any) -> Secret:
    return Secret(_client)


class Kms:
    """One test's own KMS key with an alias, made past the proxy."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.arn = self.new_key()
        self.id = self.arn.rpartition("/")[2]
        self.alias = f"alias/agents-{secrets.token_hex(4)}"
        client.create_alias(AliasName=self.alias, TargetKeyId=self.id)

    def new_key(self, **more: Any) -> str:
        """The ARN of another key."""
        return str(self.client.create_key(**more)["KeyMetadata"]["Arn"])

    def arn_of(self, name: str) -> str:
        """The ARN of the key that any of its names means."""
        return str(self.client.describe_key(KeyId=name)["KeyMetadata"]["Arn"])

    def point_alias_to(self, arn: str) -> None:
        self.client.update_alias(AliasName=self.alias, TargetKeyId=arn.rpartition("/")[2])


@pytest.fixture(scope="session")
def _kms_client(_moto: tuple[str, int]) -> Iterator[Any]:
    client = client_of("kms", _moto)
    yield client
    client.close()


@pytest.fixture
def kms(_kms_client: Any) -> Kms:
    return Kms(_kms_client)


@pytest.fixture
def fault() -> type[Fault]:
    return Fault
