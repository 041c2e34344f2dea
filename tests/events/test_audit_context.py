"""`audit_context`: who is meant, how it nests, and what is no word for a line."""

from __future__ import annotations

import asyncio

import pytest

from encrypted_sessions import audit_context
from encrypted_sessions.events.context import context_now


def test_what_is_said_holds_inside_and_nests():
    assert context_now() == {}
    with audit_context(actor="u-17", tenant="acme"):
        with audit_context(actor="u-18", request_id="r-9"):
            assert context_now() == {"actor": "u-18", "tenant": "acme", "request_id": "r-9"}
        assert context_now() == {"actor": "u-17", "tenant": "acme"}
    assert context_now() == {}


def test_each_task_has_its_own():
    async def one(name: str) -> dict[str, str]:
        with audit_context(actor=name):
            await asyncio.sleep(0)
            return context_now()

    async def both() -> list[dict[str, str]]:
        return await asyncio.gather(one("a"), one("b"))

    assert asyncio.run(both()) == [{"actor": "a"}, {"actor": "b"}]


@pytest.mark.parametrize("value", [None, 1, b"bytes", ["a"]])
def test_a_value_that_is_no_str_is_refused(value: object):
    with pytest.raises(TypeError, match="actor must be a str"):
        audit_context(actor=value)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "\0", "\x7f", "\x9b1m", "a\u2028b", "\ud800", "x" * 257])
def test_a_value_or_a_name_that_no_line_can_have_is_refused(value: str):
    with pytest.raises(ValueError, match=r"^actor has"):
        audit_context(actor=value)
    with pytest.raises(ValueError, match=r"^the name "):
        audit_context(**{value: "a"})
    assert context_now() == {}


def test_words_of_any_language_are_taken_up_to_their_length():
    with audit_context(actor="山田　太郎 \N{ZERO WIDTH JOINER}", tenant="x" * 256):
        assert len(context_now()) == 2


def test_there_are_eight_at_most_also_of_those_around():
    eight = {f"name{number}": "a" for number in range(8)}
    with pytest.raises(ValueError, match="allows 8"):
        audit_context(**eight, more="b")
    with audit_context(**eight):
        with audit_context(name0="b"):
            assert context_now()["name0"] == "b"
        with pytest.raises(ValueError, match="allows 8"), audit_context(more="b"):
            pass
        assert context_now() == eight
