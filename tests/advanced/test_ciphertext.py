"""No content lies in any table, in the file or its log, and none comes out of a log, an error or a repr."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from agents import _debug

from encrypted_sessions import KeyRing
from encrypted_sessions.advanced import EncryptedAdvancedSQLiteSession
from encrypted_sessions.errors import ScanBudgetError, UnreadableItemsError
from encrypted_sessions_tests.branching import (
    SESSION,
    answer,
    bare,
    call,
    everything_in,
    output,
    question,
    result,
    sealed,
    select,
    statement,
)
from encrypted_sessions_tests.fake_clock import FakeClock
from encrypted_sessions_tests.leaks import Net


@pytest.fixture
def net() -> Net:
    return Net()


def chat(net: Net) -> list[Any]:
    text = net.text.text
    return [
        question(text),
        {"role": "user", "content": [{"type": "input_text", "text": text}], "name": text},
        {"role": text, "type": "message", "content": text},
        answer(text),
        call("weather", arguments=text),
        output(text=text),
        {"type": "mcp_call", "server_label": "crm", "name": "lookup", "arguments": text, "output": text, "id": text},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}], "encrypted_content": text},
        {"type": "shell_call", "action": {"commands": [text]}},
        {text: text},
    ]


async def use(session: Any, net: Net) -> None:
    """Each method once, with the sentinel wherever a content or a term is."""
    await session.add_items(chat(net))
    await session.store_run_usage(result(1))
    await session.get_items(1)
    await session.read()
    await session.get_conversation_turns()
    assert len(await session.find_turns_by_content(net.text.text)) == 2
    for method in (session.get_conversation_by_turns, session.get_tool_usage, session.get_session_usage):
        await method()
    await session.create_branch_from_turn(2, "second")
    await session.switch_to_branch("main")
    await session.create_branch_from_content(net.text.text, "first")
    await session.add_items([question(net.text.text)])
    await session.pop_item()
    await session.get_turn_usage()
    await session.list_branches()
    await session.switch_to_branch("second")
    await session.delete_branch("second", force=True)
    await session._read_compaction_items(None)
    await session._atomic_replace_items([question(net.text.text)])


async def test_contents_lie_in_no_column_of_any_table_and_not_in_the_bytes_of_the_file_and_its_log(
    file: Path, ring: KeyRing, net: Net
):
    with sealed(file, ring) as session:
        await use(session, net)
        await session.add_items(chat(net))
        places = everything_in(file)
        assert {"message_structure", "turn_usage", "branch_reservations", "agent_messages", "agents.db-wal"} <= set(
            places
        )
        for where, found in places.items():
            assert net.text.found_in(found.decode("latin-1")) is None, where
    # The search would find it.
    with bare(file, "plain") as plain:
        await plain.add_items(chat(net)[:1])
        places = everything_in(file)
    assert net.text.found_in(places["agent_messages"].decode("latin-1"))


async def test_what_stays_in_the_clear_is_role_or_type_turn_branch_order_tools_names_and_counts(
    file: Path, ring: KeyRing
):
    with sealed(file, ring) as session:
        await session.add_items([question("quokka"), call("weather"), answer("quokka")])
        await session.store_run_usage(result(1))
    columns = "session_id, branch_id, message_type, sequence_number, user_turn_number, branch_turn_number, tool_name"
    assert select(file, f"SELECT {columns} FROM message_structure ORDER BY id") == [  # noqa: S608
        (SESSION, "main", "user", 1, 1, 1, None),
        (SESSION, "main", "function_call", 2, 1, 1, "weather"),
        (SESSION, "main", "assistant", 3, 1, 1, None),
    ]


@pytest.mark.parametrize("redacted", [False, True])
async def test_no_content_comes_out_of_any_log_at_any_level(
    ring: KeyRing, net: Net, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, redacted: bool
):
    """The SDK's class logs the beginning of a turn's content when it makes a branch, unless it is told not to."""
    for name in ("DONT_LOG_MODEL_DATA", "DONT_LOG_TOOL_DATA"):
        monkeypatch.setattr(_debug, name, redacted)
    with caplog.at_level(logging.DEBUG), sealed(":memory:", ring) as session:
        await use(session, net)
    assert [record for record in caplog.records if record.message.startswith("Created branch 'second'")]
    for record in caplog.records:
        net.log_record(record)
    assert net.leaks() == []


async def test_a_failing_store_quotes_no_content(file: Path, ring: KeyRing, net: Net, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG), sealed(file, ring) as session:
        await session.add_items([question(net.text.text)])
        statement(file, "DROP TABLE message_structure")
        for broken in (
            lambda: session.add_items([question(net.text.text)]),
            lambda: session.find_turns_by_content(net.text.text),
            lambda: session.create_branch_from_content(net.text.text),
            session.get_items,
            session.pop_item,
            session.list_branches,
        ):
            with net.raises(Exception):
                await broken()
    for record in caplog.records:
        net.log_record(record)
    assert net.leaks() == []


async def test_errors_and_reprs_show_no_content(
    file: Path, ring: KeyRing, net: Net, clock: FakeClock, caplog: pytest.LogCaptureFixture
):
    with bare(file) as store, caplog.at_level(logging.DEBUG):
        session = EncryptedAdvancedSQLiteSession.wrap(store, ring, ttl=60, max_scan_items=1)
        await session.add_items(chat(net))
        for shown in (repr(session), str(session), repr(session._sealed.rows), repr(session._sealed)):
            net.add("repr", shown)
        with net.raises(ValueError):
            await session.create_branch_from_turn(9)
        with net.raises(TypeError):
            await session.find_turns_by_content([net.text.text])
        session.max_scan_items = None
        with net.raises(ValueError):
            await session.create_branch_from_content(f"{net.text.text} and what is in no turn")
        statement(file, "UPDATE agent_messages SET message_data = '{}' WHERE id = 1")
        with net.raises(UnreadableItemsError):
            await session.get_conversation_turns()
        with net.raises(TypeError):
            await session.add_items([{"role": "user", "content": {net.text.text}}])
    for record in caplog.records:
        net.log_record(record)
    assert net.leaks() == []


async def test_an_exceeded_budget_says_nothing_of_what_was_found_but_in_its_attribute(ring: KeyRing, net: Net):
    with sealed(":memory:", ring, max_scan_items=1) as session:
        await session.add_items(chat(net))
        with pytest.raises(ScanBudgetError) as raised:
            await session.find_turns_by_content(net.text.text)
    error = raised.value
    assert [turn["full_content"] for turn in error.found] == [net.text.text]
    net.add("words", f"{error} {error!r} {error.args!r} {error.__cause__!r} {error.__context__!r}")
    assert net.leaks() == []
