"""A keyset under a KMS key, from its URL: which calls each command and each service makes, and what it may do."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from encrypted_sessions import EncryptedSession, KeyDisabledError, KeyRing
from encrypted_sessions.cli import application
from encrypted_sessions_tests.documents import ROOT, blocks
from encrypted_sessions_tests.keyset_fixture import make_format_1
from encrypted_sessions_tests.stores import PlainSession
from keyproviders import (
    KeyAccessDeniedError,
    KeyProvider,
    KeyUnavailableError,
    ProviderConfigError,
    RetryPolicy,
    open_keyset,
    open_provider,
)
from keyproviders.aws import AwsKmsKeyWrapper
from keyproviders.keyset import FileKeysetStore, KeysetKeyProvider
from keyproviders.testing import KeyProviderConformance

PAGE = ROOT / "docs" / "aws-kms.md"
ITEM = {"role": "user", "content": "hello"}


@pytest.fixture
def url(proxy, kms, tmp_path: Path, monkeypatch) -> str:
    """Of a keyset that is not there yet."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", proxy.url)
    return f"aws-kms:{kms.alias}?keyset=file:{tmp_path}/keyset.json"


def command(*words: str) -> Any:
    """What ``encrypted-sessions keys ...`` does; its JSON, where it was asked for."""
    done = CliRunner().invoke(application(), ["keys", *words])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if "--json" in words else done.stdout


def calls(proxy: Any) -> list[str]:
    """What KMS was asked since this was last called."""
    found = [one.target for one in proxy.asked]
    del proxy.asked[:]
    return found


class TestConformance(KeyProviderConformance):
    @pytest.fixture(autouse=True)
    def _a_keyset_with_two_keys(self, url):
        manager = open_keyset(url)
        self.older = manager.create().name
        manager.rotate(now=True)
        manager.close()
        self.url = url
        self.made: list[Any] = []
        yield
        for provider in self.made:
            provider.close()

    def make_provider(self) -> KeyProvider:
        self.made.append(open_provider(self.url))
        return self.made[-1]

    def older_name(self) -> str | None:
        return self.older

    def test_it_starts_no_threads(self) -> None:
        """But for those of this test's own servers, which have one for each connection."""
        before = set(threading.enumerate())
        self.make_provider().active()
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        assert [name for name in new if "process_request_thread" not in name] == []


# Calls.


def test_each_command_makes_these_calls_and_no_others(proxy, kms, url):
    command("create", url)
    assert calls(proxy) == ["GenerateDataKey"]
    assert command("list", url, "--json")["keys"][0]["kek"] == kms.arn
    assert calls(proxy) == []
    command("rotate", url, "--now")
    assert calls(proxy) == ["GenerateDataKey"]
    command("rewrap", url)
    assert calls(proxy) == ["ReEncrypt", "ReEncrypt"]
    command("upgrade", url)
    assert calls(proxy) == []


@pytest.fixture
def old(proxy, kms, url, tmp_path: Path) -> Path:
    """A keyset of 0.1.0, with the keys `k1` and `k2`."""
    with closing(AwsKmsKeyWrapper(kms.alias)) as wrapper:
        make_format_1(wrapper, FileKeysetStore(tmp_path / "keyset.json"), "k1", "k2", now=1_735_732_800)
    del proxy.asked[:]
    return tmp_path / "keyset.json"


def test_an_upgrade_binds_every_key_to_the_id_within_kms(proxy, url, old):
    with closing(open_provider(url)) as provider:
        before = {name: provider.get(name) for name in ("k1", "k2")}
    del proxy.asked[:]
    found = command("upgrade", url, "--json")
    assert [one.target for one in proxy.asked] == ["ReEncrypt", "ReEncrypt"]
    for one, name in zip(proxy.asked, ("k1", "k2"), strict=True):
        bound = {"keyset": "default", "key": name, "created_at": "2025-01-01T12:00:00Z"}
        assert one.body["SourceEncryptionContext"] == bound
        assert one.body["DestinationEncryptionContext"] == {**bound, "keyset_id": found["keyset_id"]}
    with closing(open_provider(f"{url}&keyset_id={found['keyset_id']}")) as provider:
        assert {name: provider.get(name) for name in before} == before


def test_an_upgrade_takes_no_key_of_a_kms_key_that_the_url_does_not_name(proxy, kms, url, old):
    before = old.read_text()
    other = kms.new_key()
    manager = open_keyset(url.replace(kms.alias, other))
    with closing(manager), pytest.raises(ProviderConfigError, match="may be used here"):
        manager.upgrade()
    assert proxy.asked == []
    assert old.read_text() == before


def test_the_later_commands_ask_kms_nothing(proxy, url):
    manager = open_keyset(url)
    manager.create(activation_delay_s=1)
    manager.close()
    calls(proxy)
    name = command("list", url, "--json")["keys"][0]["name"]
    done = CliRunner().invoke(application(), ["keys", "retire", url, name])
    assert done.exit_code == 1
    assert calls(proxy) == []


async def test_a_service_unwraps_each_key_once_and_asks_nothing_else(proxy, url):
    manager = open_keyset(url)
    manager.create(key_name="k1")
    async with KeyRing.from_url(url) as ring:
        session = EncryptedSession.wrap(PlainSession("a", []), ring, ttl=600)
        await session.add_items([ITEM])
        manager.rotate(key_name="k2", now=True)
        await ring.refresh()
        for _ in range(50):
            await session.add_items([ITEM])
            await session.get_items()
            await ring.refresh()
        assert len(await session.get_items()) == 51
    manager.close()
    assert [(one.target, one.body["EncryptionContext"]["key"]) for one in proxy.asked] == [
        ("GenerateDataKey", "k1"),
        ("Decrypt", "k1"),
        ("GenerateDataKey", "k2"),
        ("Decrypt", "k2"),
    ]


def test_what_is_bound_is_what_the_log_of_kms_will_show(proxy, url):
    manager = open_keyset(f"{url}&keyset_name=tenant-7")
    made = manager.create(key_name="k1")
    assert proxy.asked[-1].body["EncryptionContext"] == {
        "keyset": "tenant-7",
        "key": "k1",
        "created_at": made.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "keyset_id": manager.keyset_id,
    }
    manager.close()


# Revocation and outages, as a ring sees them.


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def place(proxy, kms, url, tmp_path: Path):
    """A keyset, a ring on it, and their clock."""
    clock = Clock()
    store = FileKeysetStore(str(tmp_path / "keyset.json"))
    manager = open_keyset(url)
    manager.create(key_name="k1")
    manager.close()
    provider = KeysetKeyProvider(AwsKmsKeyWrapper(kms.alias), store, clock=clock)
    ring = KeyRing(provider, retry=RetryPolicy(attempts=1), clock=clock)
    yield ring, clock
    ring.close()


@pytest.mark.parametrize(
    ("code", "message"),
    [("DisabledException", "the key is disabled"), ("KMSInvalidStateException", "the key is pending deletion")],
)
async def test_a_disabled_kms_key_ends_a_process_once_its_copy_is_an_hour_old(proxy, fault, place, code, message):
    ring, clock = place
    await ring.active()
    # As long as the ring can go on with an answer, a copy is made anew before it is an hour old.
    clock.now += 3_400
    await ring.refresh()
    assert calls(proxy) == ["GenerateDataKey", "Decrypt"]
    clock.now += 20
    proxy.faults.append(fault(400, code, message))
    with pytest.raises(KeyDisabledError):
        await ring.refresh()
    proxy.faults.append(fault(400, code, message))
    with pytest.raises(KeyDisabledError):
        await ring.active()


async def test_an_outage_of_kms_ends_nothing(proxy, fault, place):
    ring, clock = place
    key = await ring.active()
    clock.now += 3_700
    proxy.faults += [fault(500, "KMSInternalException")] * 50
    with pytest.raises(KeyUnavailableError):
        await ring.refresh()
    assert await ring.get(key.kid) == key
    del proxy.faults[:]
    await ring.refresh()
    assert await ring.active() == key


# Policies: those of the page, as KMS reads them. moto reads neither resources nor conditions of a policy.


def policies() -> dict[str, Any]:
    """The policies of the page: that of the key, and those of the two roles, by their first words."""
    key, service, operator = (json.loads(block.text) for block in blocks(PAGE, "json") if "Statement" in block.text)
    return {"key": key, "service": service, "operator": operator}


def permissions_asked(asked: Any, arn_of: Any) -> list[tuple[str, str, dict[str, str]]]:
    """What a request needs: action, resource, and what is bound."""
    body = asked.body
    if asked.target == "ReEncrypt":
        return [
            ("kms:ReEncryptFrom", arn_of(body["SourceKeyId"]), body["SourceEncryptionContext"]),
            ("kms:ReEncryptTo", arn_of(body["DestinationKeyId"]), body["DestinationEncryptionContext"]),
        ]
    return [(f"kms:{asked.target}", arn_of(body["KeyId"]), body["EncryptionContext"])]


def allows(policy: Any, role: str, action: str, resource: str, bound: dict[str, str]) -> bool:
    """Whether a policy with nothing but Allow, whole names and StringEquals allows this. Anything else: an error."""
    for statement in policy["Statement"]:
        assert set(statement) <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert statement["Effect"] == "Allow"
        if "Principal" in statement and statement["Principal"] != {"AWS": f"arn:aws:iam::123456789012:role/{role}"}:
            continue
        actions, resources = (
            [found] if isinstance(found, str) else found for found in (statement["Action"], statement["Resource"])
        )
        condition = dict(statement.get("Condition", {}))
        wanted = condition.pop("StringEquals", {})
        assert condition == {}
        assert all(name.startswith("kms:EncryptionContext:") for name in wanted)
        holds = all(bound.get(name.rpartition(":")[2]) == value for name, value in wanted.items())
        if action in actions and holds and (resources == ["*"] or resource in resources):
            return True
    return False


@pytest.fixture
def as_role(proxy, kms, fault, monkeypatch):
    """From now on, KMS allows what a policy of the page allows a role, and denies the rest."""
    note = proxy.note
    known = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

    def become(which: str, role: str) -> None:
        policy = json.loads(json.dumps(policies()[which]).replace(known, kms.arn))

        def checked(headers: Any, content: bytes) -> Any:
            answer = note(headers, content)
            for action, resource, bound in permissions_asked(proxy.asked[-1], kms.arn_of):
                if not allows(policy, role, action, resource, bound):
                    return fault(400, "AccessDeniedException", f"{role} is not authorized to perform: {action}")
            return answer

        monkeypatch.setattr(proxy, "note", checked)

    return become


BOTH = pytest.mark.parametrize(
    ("operator", "service"),
    [(("key", "agents-operator"), ("key", "agents")), (("operator", "agents-operator"), ("service", "agents"))],
    ids=["policy of the key", "policies of the roles"],
)


@BOTH
def test_the_policies_of_the_page_let_the_operator_upgrade(url, old, as_role, operator, service):
    as_role(*operator)
    upgraded = f"{url}&keyset_id={command('upgrade', url, '--json')['keyset_id']}"
    as_role(*service)
    with closing(open_provider(upgraded)) as provider:
        assert provider.active().name == "k2"


@BOTH
async def test_the_policies_of_the_page_let_everybody_do_their_work_and_no_more(url, as_role, operator, service):
    as_role(*operator)
    command("create", url)
    command("rotate", url, "--now")
    command("rewrap", url)
    ring = KeyRing.from_url(url, retry=RetryPolicy(attempts=1))
    with pytest.raises(KeyAccessDeniedError, match="kms:Decrypt"):
        await ring.active()
    await ring.aclose()

    as_role(*service)
    async with KeyRing.from_url(url) as ring:
        await ring.active()
    for words in (("rotate", url, "--now"), ("rewrap", url)):
        done = CliRunner().invoke(application(), ["keys", *words])
        assert done.exit_code == 4
        assert "is not authorized to perform" in done.output


@BOTH
def test_the_policies_of_the_page_are_for_one_keyset(url, as_role, operator, service):
    as_role(*operator)
    done = CliRunner().invoke(application(), ["keys", "create", f"{url}&keyset_name=another"])
    assert done.exit_code == 4
    assert "kms:GenerateDataKey" in done.output


def test_the_page_names_the_calls_of_each_command():
    text = PAGE.read_text(encoding="utf-8")
    for call in ("GenerateDataKey", "ReEncrypt", "Decrypt"):
        assert f"`{call}`" in text
