"""Every stored row ends as exactly one outcome, on every store, and reading deletes nothing."""

from __future__ import annotations

import hashlib
import logging
import pickle
from typing import Any

import pytest

from encrypted_sessions import EncryptedSession, Finding, Key, KeyRing, UnreadableItemsError
from encrypted_sessions._support.session_names import logged_session
from encrypted_sessions.core.outcomes import EXPLANATIONS
from encrypted_sessions.history import session_log
from encrypted_sessions_tests.bulk_rows import texts, write_rows
from encrypted_sessions_tests.sealed_rows import OUTCOMES, SESSION, TTL, UNREADABLE, Sealer, message, outcome_of
from encrypted_sessions_tests.stores import StoreLocation, open_store, raw_rows
from keyproviders.local import StaticKeyProvider

LEFT_OUT_QUIETLY = tuple(kind for kind in OUTCOMES if kind not in UNREADABLE and kind != "ok")


async def history_with(place: StoreLocation, sealer: Sealer, kind: str) -> list[str]:
    """Three rows: one that is good, one of this kind, one that is good."""
    rows = [sealer.ok("first"), sealer.of(kind, "odd"), sealer.ok("last")]
    async with sealer.session(place):  # so that the tables are there
        await write_rows(place, SESSION, rows)
    return rows


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_row_that_cannot_be_read_raises_and_is_named(place: StoreLocation, sealer: Sealer, kind: str):
    rows = await history_with(place, sealer, kind)
    outcome = outcome_of(kind)
    async with sealer.session(place) as session:
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
    assert raised.value.outcomes == {"ok": 2, outcome: 1}
    assert raised.value.findings == (Finding(1, outcome, sealer.kid_of(kind)),)
    assert f"1 of 3 stored items cannot be read (1 {outcome})" in str(raised.value)
    assert EXPLANATIONS[outcome] in str(raised.value)
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("kind", LEFT_OUT_QUIETLY)
async def test_a_row_whose_time_or_key_is_gone_is_left_out(place: StoreLocation, sealer: Sealer, kind: str):
    rows = await history_with(place, sealer, kind)
    async with sealer.session(place) as session:
        assert texts(await session.get_items()) == ["first", "last"]
        assert texts(await session.get_items(2)) == ["first", "last"]
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("kind", OUTCOMES)
async def test_skip_leaves_the_row_out_and_says_what_was_left_out(
    place: StoreLocation, sealer: Sealer, kind: str, caplog: pytest.LogCaptureFixture
):
    rows = await history_with(place, sealer, kind)
    expected = ["first", "odd", "last"] if kind == "ok" else ["first", "last"]
    with caplog.at_level(logging.WARNING, logger="encrypted_sessions"):
        async with sealer.session(place, on_unreadable="skip") as session:
            assert texts(await session.get_items()) == expected
            told = [record.getMessage() for record in caplog.records if record.name == "encrypted_sessions"]
    if kind in UNREADABLE:
        assert told == [f"items that cannot be read were left out: 1 {outcome_of(kind)}"]
    elif outcome_of(kind) == "erased":
        assert told == ["1 items were left out because their key was destroyed"]
    elif kind == "expired_unverified":
        assert told == ["1 items were left out whose key is gone, and which claim to be older than the ttl"]
    else:
        assert told == []
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
@pytest.mark.parametrize("kind", OUTCOMES)
async def test_read_returns_what_is_good_and_counts_the_rest(
    place: StoreLocation, sealer: Sealer, kind: str, on_unreadable: str
):
    rows = await history_with(place, sealer, kind)
    outcome = outcome_of(kind)
    async with sealer.session(place, on_unreadable=on_unreadable) as session:
        history = await session.read()
    if outcome == "ok":
        assert (texts(history.items), history.outcomes) == (["first", "odd", "last"], {"ok": 3})
    else:
        assert (texts(history.items), history.outcomes) == (["first", "last"], {"ok": 2, outcome: 1})
    quiet = outcome in ("ok", "expired")
    assert history.findings == (() if quiet else (Finding(1, outcome, sealer.kid_of(kind)),))
    assert await raw_rows(place, SESSION) == rows


async def test_each_of_many_outcomes_is_counted_for_itself(place: StoreLocation, sealer: Sealer):
    rows = [sealer.of(kind) for kind in OUTCOMES]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        history = await session.read()
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
    counts: dict[str, int] = {}
    for kind in OUTCOMES:
        counts[outcome_of(kind)] = counts.get(outcome_of(kind), 0) + 1
    assert history.outcomes == counts
    assert raised.value.outcomes == counts
    found = [kind for kind in reversed(OUTCOMES) if kind not in ("ok", "expired")][:20]
    newest_first = list(reversed(OUTCOMES))
    assert history.findings == tuple(
        Finding(newest_first.index(kind), outcome_of(kind), sealer.kid_of(kind)) for kind in found
    )
    assert await raw_rows(place, SESSION) == rows


async def test_a_limit_looks_no_further_than_it_must(place: StoreLocation, sealer: Sealer):
    rows = [sealer.of("unauthentic"), sealer.ok("one"), sealer.ok("two")]
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, rows)
        assert texts(await session.get_items(2)) == ["one", "two"]
        assert (await session.read(2)).outcomes == {"ok": 2}
        with pytest.raises(UnreadableItemsError):
            await session.get_items(3)


async def test_plaintext_is_returned_and_counted_when_it_is_let_in(place: StoreLocation, sealer: Sealer):
    rows = await history_with(place, sealer, "plaintext")
    async with sealer.session(place, plaintext="read") as session:
        assert texts(await session.get_items()) == ["first", "odd", "last"]
        history = await session.read()
    assert texts(history.items) == ["first", "odd", "last"]
    assert history.outcomes == {"ok": 2, "plaintext": 1}
    assert history.findings == ()
    assert await raw_rows(place, SESSION) == rows


@pytest.mark.parametrize("kind", ["unauthentic", "malformed: a list", "unsupported"])
async def test_letting_plaintext_in_lets_nothing_else_in(place: StoreLocation, sealer: Sealer, kind: str):
    await history_with(place, sealer, kind)
    async with sealer.session(place, plaintext="read") as session:
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
    assert raised.value.outcomes == {"ok": 2, outcome_of(kind): 1}


async def test_a_wrong_string_says_altered_or_sealed_with_another_key(
    place: StoreLocation, caplog: pytest.LogCaptureFixture
):
    async with open_store(place, SESSION) as store:
        right = EncryptedSession(SESSION, store, Key.generate().reveal_base64(), TTL)
        await right.add_items([message("one"), message("two")])
        rows = await raw_rows(place, SESSION)
        wrong = EncryptedSession(SESSION, store, Key.generate().reveal_base64(), TTL)
        for refused in (wrong.get_items, wrong.pop_item):
            with pytest.raises(UnreadableItemsError, match="altered, or sealed with another key"):
                await refused()
        skipping = EncryptedSession(SESSION, store, Key.generate().reveal_base64(), TTL, on_unreadable="skip")
        assert await skipping.get_items() == []
        assert "items that cannot be read were left out: 2 unauthentic" in caplog.text
        assert await raw_rows(place, SESSION) == rows
        assert texts(await right.get_items()) == ["one", "two"]


async def test_another_key_under_the_same_name_is_unknown_and_never_an_empty_history(
    place: StoreLocation, caplog: pytest.LogCaptureFixture
):
    rings = [KeyRing(StaticKeyProvider(Key.generate("main"))) for _ in range(2)]
    async with open_store(place, SESSION) as store:
        right, wrong = (EncryptedSession.wrap(store, ring, ttl=TTL) for ring in rings)
        await right.add_items([message("one")])
        for refused in (wrong.get_items, wrong.pop_item):
            with pytest.raises(UnreadableItemsError, match="1 unknown_key"):
                await refused()
        assert "this name now means another key" in caplog.text
        assert texts(await right.get_items()) == ["one"]
    for ring in rings:
        ring.close()


async def test_rows_of_the_sdks_class_need_its_string(place: StoreLocation, sealer: Sealer):
    string = Key.generate().reveal_base64()
    async with open_store(place, SESSION) as store:
        theirs = EncryptedSession(SESSION, store, string, TTL)
        await theirs.add_items([message("theirs")])
        without = EncryptedSession.wrap(store, sealer.ring, ttl=TTL)
        with pytest.raises(UnreadableItemsError, match="need upstream_key="):
            await without.get_items()
        assert (await without.read()).findings == (Finding(0, "unknown_key", "hkdf-v1"),)
        ours = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, upstream_key=string)
        await ours.add_items([message("ours")])
        assert texts(await ours.get_items()) == ["theirs", "ours"]
        mistaken = EncryptedSession.wrap(store, sealer.ring, ttl=TTL, upstream_key=Key.generate().reveal_base64())
        assert (await mistaken.read()).outcomes == {"ok": 1, "unauthentic": 1}
        # To a string, every kid is its own.
        assert (await theirs.read()).outcomes == {"ok": 1, "unauthentic": 1}
    assert "hkdf-v1" not in sealer.provider.asked


async def test_a_row_moved_here_from_another_session_is_unauthentic(place: StoreLocation, sealer: Sealer):
    stranger = Sealer("user-2")
    stranger.active = sealer.active
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [stranger.ok("moved")])
        with pytest.raises(UnreadableItemsError) as raised:
            await session.get_items()
    assert raised.value.outcomes == {"ok": 0, "unauthentic": 1}
    assert raised.value.findings == (Finding(0, "unauthentic", sealer.active.kid),)
    stranger.ring.close()


@pytest.mark.parametrize("kind", ["erased", "expired_unverified"])
async def test_rows_that_are_passed_over_are_told_once_a_minute_and_session(
    place: StoreLocation, sealer: Sealer, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    await history_with(place, sealer, kind)

    def told() -> int:
        return len([record for record in caplog.records if record.name == "encrypted_sessions"])

    with caplog.at_level(logging.WARNING, logger="encrypted_sessions"):
        for _ in range(3):  # a session object may be made for each request
            async with sealer.session(place) as session:
                await session.get_items()
                await session.read()
        assert told() == 1
        monkeypatch.setattr(session_log, "_REST_S", 0.0)
        async with sealer.session(place) as session:
            await session.get_items()
        assert told() == 2


@pytest.mark.parametrize("on_unreadable", ["raise", "skip"])
@pytest.mark.parametrize("kind", ["unauthentic", "unknown_key", "plaintext", "malformed: no parts"])
async def test_a_refused_row_can_be_placed_by_its_error_and_by_the_log(
    place: StoreLocation,
    sealer: Sealer,
    kind: str,
    on_unreadable: Any,
    caplog: pytest.LogCaptureFixture,
):
    await history_with(place, sealer, kind)
    outcome, kid = outcome_of(kind), sealer.kid_of(kind)
    with caplog.at_level(logging.INFO, logger="encrypted_sessions"):
        async with sealer.session(place, on_unreadable=on_unreadable) as session:
            store = type(session.underlying_session).__name__
            if on_unreadable == "raise":
                with pytest.raises(UnreadableItemsError) as raised:
                    await session.get_items()
            else:
                await session.get_items()
    (record,) = (record for record in caplog.records if record.name == "encrypted_sessions")
    fields = vars(record)
    assert record.levelname == ("ERROR" if outcome == "unauthentic" else "WARNING")
    assert (fields["store"], fields["position"], fields["outcome"], fields["kid"]) == (store, 1, outcome, kid)
    assert fields["outcomes"] == {outcome: 1}
    assert fields["findings"] == [{"position": 1, "outcome": outcome, "kid": kid}]
    assert fields["session"] == logged_session(SESSION)
    assert SESSION not in str(fields)
    if on_unreadable == "raise":
        error = raised.value
        assert (error.session_id, error.store) == (SESSION, store)
        for word in (repr(SESSION), store, outcome, kid or "", "1 " + outcome):
            assert word in str(error)
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
        assert (again.session_id, again.store, again.findings) == (SESSION, store, error.findings)


async def test_a_row_that_pop_and_compaction_refuse_is_told_too(
    place: StoreLocation, sealer: Sealer, caplog: pytest.LogCaptureFixture
):
    async with sealer.session(place) as session:
        await write_rows(place, SESSION, [sealer.ok("first"), sealer.of("unauthentic")])
        for operation in (session.pop_item, lambda: session._atomic_replace_items([message("all")])):
            caplog.clear()
            with pytest.raises(UnreadableItemsError):
                await operation()
            (record,) = (record for record in caplog.records if record.name == "encrypted_sessions")
            assert (record.levelname, vars(record)["position"]) == ("ERROR", 0)


def test_session_ids_are_logged_as_they_are_only_when_the_environment_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ENCRYPTED_SESSIONS_LOG_SESSION_IDS", raising=False)
    hashed = logged_session(SESSION)
    assert hashed == logged_session(SESSION)
    assert hashed != logged_session("user-2")
    assert SESSION not in hashed
    assert hashed != hashlib.sha256(SESSION.encode()).hexdigest()[: len(hashed)]
    monkeypatch.setenv("ENCRYPTED_SESSIONS_LOG_SESSION_IDS", "plain")
    assert logged_session(SESSION) == SESSION
