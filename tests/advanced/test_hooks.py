"""What is needed of the SDK's class that is not public, and the sessions that are refused, in words.

Where a release of the SDK changes one of these, a test here fails; at run time the class is refused.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession

from encrypted_sessions import EncryptedSession, KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions.stores.sqlite import branch_rows, structure
from encrypted_sessions.stores.sqlite.branch_rows import AllBranches
from encrypted_sessions.stores.sqlite.structure import StructuredEnvelope
from encrypted_sessions_tests.branching import SESSION, bare, call, question, sealed, select
from encrypted_sessions_tests.compaction import Compactor, compacting

WRAPS: dict[str, Callable[..., Any]] = {
    "wrap": lambda session, ring: EncryptedAdvancedSQLiteSession.wrap(session, ring, ttl=None),
    "class": lambda session, ring: EncryptedAdvancedSQLiteSession(SESSION, session, ring),
}


@pytest.fixture(params=WRAPS)
def wrap(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return WRAPS[request.param]


# -- What is used of the installed SDK --------------------------------------------------------------


def private_names_used(source: str) -> set[str]:
    """Of `session` and `self._session`, what is not public."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and ast.unparse(node.value) in ("self._session", "session")
    }


def test_what_the_rows_of_branches_use_of_the_class_is_what_is_looked_for():
    assert private_names_used(inspect.getsource(branch_rows)) == set(AllBranches.NEEDS)


def parameters(function: Any) -> list[str]:
    return [str(parameter).split(":")[0] for parameter in inspect.signature(function).parameters.values()]


def test_the_installed_class_has_all_of_it_as_expected():
    with bare() as session:
        assert [name for name in (*AllBranches.NEEDS, *structure._HOOKS) if not hasattr(session, name)] == []
        assert session._branch_state == ("main", 0)
        assert parameters(session._insert_items) == ["conn", "items"]
        assert parameters(session._insert_structure_metadata) == ["conn", "items", "branch_id"]
        assert parameters(session._run_ordered_turn_operation) == ["worker", "*args"]
        assert parameters(session._refresh_branch_after_external_clear) == ["conn", "initialize"]
        assert parameters(session._ensure_branch_reservations_table) == ["conn"]
        for hook in ("_classify_message_type", "_extract_tool_name", "_is_user_message"):
            assert parameters(getattr(session, hook)) == ["item"]


def test_its_tables_have_the_columns_expected(file: Path):
    with bare(file):
        pass
    columns = {
        table: [column for _, column, *_ in select(file, f"PRAGMA table_info({table})")]
        for table in ("message_structure", "turn_usage", "branch_reservations")
    }
    assert columns["message_structure"] == [
        *("id", "session_id", "message_id", "branch_id", "message_type", "sequence_number"),
        *("user_turn_number", "branch_turn_number", "tool_name", "created_at"),
    ]
    assert columns["turn_usage"][1:4] == ["session_id", "branch_id", "user_turn_number"]
    assert columns["branch_reservations"] == ["session_id", "branch_id"]
    ((schema,),) = select(file, "SELECT sql FROM sqlite_master WHERE name = 'message_structure'")
    assert "id INTEGER PRIMARY KEY AUTOINCREMENT" in schema  # no row's number is given once more


async def test_neither_rows_nor_structure_are_committed_before_the_caller_says_so():
    with bare() as session:
        with session._write_connection() as connection:
            session._insert_items(connection, [question("one")])
            session._insert_structure_metadata(connection, [question("one")], "main")
            connection.rollback()
        assert await session.get_items() == []
        assert await session.list_branches() == []


async def test_a_clear_by_another_object_shows_in_the_state_after_a_refresh(file: Path):
    with bare(file) as session, bare(file) as another:
        await session.add_items([question("one")])
        await session.create_branch_from_turn(1, "side")
        await another.clear_session()
        assert session._branch_state == ("side", 0)
        with session._locked_connection() as connection:
            session._refresh_branch_after_external_clear(connection, initialize=False)
        assert session._branch_state == ("main", 1)


# -- The envelope that answers for its item ---------------------------------------------------------

ENVELOPE = {"__enc__": 1, "v": 1, "kid": "k", "payload": "p"}
ITEM = {"type": "function_call", "name": "weather", "namespace": "crm", "arguments": "quokka", "call_id": "c1"}


@pytest.mark.parametrize("encoder", ["C", "pure Python"])
def test_json_shows_the_envelope_and_nothing_else(encoder: str, monkeypatch: pytest.MonkeyPatch):
    if encoder == "C":
        assert json.encoder.c_make_encoder is not None
    else:
        monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    envelope = StructuredEnvelope(ENVELOPE, ITEM)
    for options in ({}, {"sort_keys": True}, {"indent": 1}, {"ensure_ascii": False}):
        assert json.dumps(envelope, **options) == json.dumps(ENVELOPE, **options)
    assert json.dumps([envelope]) == json.dumps([ENVELOPE])
    assert json.loads(json.dumps(envelope)) == ENVELOPE


def test_it_answers_for_the_structure_of_its_item_and_for_nothing_else():
    envelope = StructuredEnvelope(ENVELOPE, ITEM)
    assert {name: envelope.get(name) for name in ("type", "name", "namespace", "server_label", "role")} == {
        "type": "function_call",
        "name": "weather",
        "namespace": "crm",
        "server_label": None,
        "role": None,
    }
    assert "name" in envelope
    assert envelope["name"] == "weather"
    for name in ("arguments", "call_id", "payload"):
        assert name not in envelope
        assert envelope.get(name, "nothing") == "nothing"
        with pytest.raises(KeyError):
            envelope[name]
    assert "quokka" not in f"{envelope!r} {envelope} {envelope._structure}"
    assert isinstance(envelope, dict)


async def test_the_sdks_class_stores_what_json_makes_of_an_item(file: Path, ring: KeyRing):
    with sealed(file, ring) as session:
        await session.add_items([question("one"), call("weather")])
    rows = [json.loads(data) for (data,) in select(file, "SELECT message_data FROM agent_messages")]
    assert [set(row) for row in rows] == [{"__enc__", "v", "kid", "payload"}] * 2
    assert select(file, "SELECT message_type, tool_name FROM message_structure ORDER BY id") == [
        ("user", None),
        ("function_call", "weather"),
    ]


# -- Refused in words -------------------------------------------------------------------------------


class Structural:
    session_id = SESSION

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return []

    add_items = pop_item = clear_session = get_items


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda _: SQLiteSession(SESSION), "SQLiteSession"),
        (lambda session: compacting(session, Compactor()), "OpenAIResponsesCompactionSession"),
        (
            lambda session: EncryptedAdvancedSQLiteSession.wrap(session, KEYS, ttl=None),
            "EncryptedAdvancedSQLiteSession",
        ),
        (lambda _: Structural(), "Structural"),
        (lambda _: AdvancedSQLiteSession, "class"),
        (lambda _: None, "None"),
        (lambda _: SESSION, "str"),
    ],
    ids=["SQLiteSession", "compaction around one", "a wrapper", "five members", "the class", "None", "a str"],
)
def test_what_is_no_advanced_sqlite_session_is_refused(make: Any, named: str, wrap: Any, ring: KeyRing):
    with bare() as session:
        other = make(session)
        with pytest.raises(TypeError, match="must be an AdvancedSQLiteSession of the Agents SDK, not") as raised:
            wrap(other, ring)
        assert named in str(raised.value)
        assert "EncryptedSession wraps any other session" in str(raised.value)
        if isinstance(other, SQLiteSession):
            other.close()


KEYS = KeyRing.ephemeral()


@pytest.mark.parametrize("hook", structure._HOOKS)
def test_a_subclass_with_a_hook_of_its_own_is_refused_and_the_hook_is_named(hook: str, wrap: Any, ring: KeyRing):
    own: Any = type("Own", (AdvancedSQLiteSession,), {hook: lambda self, *given: None})
    session = own(session_id=SESSION, create_tables=True)
    with pytest.raises(ValueError, match=f"^Own has {hook} of its own, which would see envelopes instead of items"):
        wrap(session, ring)
    session.close()


@pytest.mark.parametrize("hook", structure._HOOKS)
def test_a_release_without_a_hook_is_refused(hook: str, wrap: Any, ring: KeyRing, monkeypatch: pytest.MonkeyPatch):
    with bare() as session:
        monkeypatch.setattr(AdvancedSQLiteSession, hook, None)
        with pytest.raises(ValueError, match=f"of the installed Agents SDK has no {hook}: .* Upgrade"):
            wrap(session, ring)


@pytest.mark.parametrize("name", [name for name in AllBranches.NEEDS if hasattr(AdvancedSQLiteSession, name)])
def test_a_release_without_what_the_rows_need_is_refused(
    name: str, wrap: Any, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
):
    with bare() as session:
        for one in (AdvancedSQLiteSession, SQLiteSession):
            if name in vars(one):
                monkeypatch.delattr(one, name)
        with pytest.raises(ValueError, match=f"of the installed Agents SDK has no .*{name}.* Upgrade"):
            wrap(session, ring)


@pytest.mark.parametrize(
    ("hook", "found"),
    [
        ("_classify_message_type", "tool_call"),
        ("_extract_tool_name", None),
        ("_extract_tool_name", "crm.probe"),
        ("_is_user_message", True),
        ("_is_user_message", False),
    ],
)
def test_a_release_that_looks_at_items_in_another_way_is_refused(
    hook: str, found: Any, wrap: Any, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
):
    with bare() as session:
        monkeypatch.setattr(AdvancedSQLiteSession, hook, lambda self, item: found)
        with pytest.raises(ValueError, match=r"reads items in a way .* Upgrade encrypted-sessions"):
            wrap(session, ring)


async def test_a_subclass_that_leaves_the_hooks_as_they_are_is_taken(ring: KeyRing, wrap: Any):
    class Owner(AdvancedSQLiteSession):
        owner = "support"

        def greeting(self) -> str:
            return "hello"

    session = Owner(session_id=SESSION, create_tables=True)
    ours = wrap(session, ring)
    await ours.add_items([question("one")])
    assert [turn["full_content"] for turn in await ours.get_conversation_turns()] == ["one"]
    assert ours.underlying_session.greeting() == "hello"
    session.close()


# -- The plain wrapper says that there is a better one ----------------------------------------------


@pytest.mark.parametrize("make", [AdvancedSQLiteSession, type("Owner", (AdvancedSQLiteSession,), {})])
async def test_the_plain_wrapper_warns_names_this_one_and_goes_on_as_a_chat(make: Any, ring: KeyRing):
    session = make(session_id=SESSION, create_tables=True)
    with pytest.warns(
        UserWarning, match=f"^EncryptedSession supports {make.__name__} only as a plain chat: "
    ) as warned:
        chat = EncryptedSession.wrap(session, ring, ttl=None)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert "encrypted_sessions.advanced.EncryptedAdvancedSQLiteSession supports all of it" in str(warned[0].message)
    await chat.add_items([question("one"), question("two")])
    assert await chat.get_items() == [question("one"), question("two")]
    assert await chat.pop_item() == question("two")
    session.close()


def test_no_other_store_is_warned_of_nor_is_this_wrapper(ring: KeyRing):
    with contextlib.closing(SQLiteSession(SESSION)) as plain:
        EncryptedSession.wrap(plain, ring, ttl=None)
    EncryptedSession.wrap(Structural(), ring, ttl=None)
    with bare() as session:
        EncryptedAdvancedSQLiteSession.wrap(session, ring, ttl=None)


async def test_what_the_plain_wrapper_wrote_is_read_as_a_chat_without_turns(file: Path, ring: KeyRing):
    with bare(file) as session:
        with pytest.warns(UserWarning, match="only as a plain chat"):
            chat = EncryptedSession.wrap(session, ring, ttl=None)
        await chat.add_items([question("one")])
    with sealed(file, ring) as ours:
        assert await ours.get_items() == [question("one")]
        assert await ours.get_conversation_turns() == []
