"""What stands in an audit log, and what it is made with."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import hmac
import json
import logging
import pickle
import re
import stat
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encrypted_sessions import Finding, ItemCount, Key, KeyRing, KeysetEvent, RunEvent, SessionEvent
from encrypted_sessions.audit import AuditLog
from encrypted_sessions.audit.chain import chained, parsed
from encrypted_sessions.audit.session_lines import session_line
from encrypted_sessions.audit.verification import parse_until
from encrypted_sessions.maintenance.reports import PurgeReport, RowFinding
from encrypted_sessions_tests.audit_files import (
    AT,
    event,
    files_in,
    lines_in,
    read_event,
    refused_event,
    said_in,
    verdict_of,
)
from encrypted_sessions_tests.soak import examples
from keyproviders import KeyEvent
from keyproviders.local import StaticKeyProvider

NewLog = Callable[..., AuditLog]
MARKED = "<b>[red]\x1b[2J\n\x7f\u2028\u202eü"


def ring_of(*keys: Key) -> contextlib.closing[KeyRing]:
    return contextlib.closing(KeyRing(StaticKeyProvider(*keys)))


# -- Lines ------------------------------------------------------------------------------------------


def test_a_file_is_its_owners_alone_and_begins_and_ends_with_a_line_of_its_own(folder: Path, new_log: NewLog):
    log = new_log()
    log(event())
    log.close()
    (file,) = files_in(folder)
    assert re.fullmatch(r"audit-[\w.-]+-\d+-\d{8}T\d{12}Z-0001\.jsonl", Path(file).name)
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    lines = Path(file).read_bytes().splitlines()
    first, said, last = map(json.loads, lines)
    assert (first["n"], first["prev"], first["event"], first["chain"]) == (1, "0" * 64, "begin", {"by": "sha256"})
    assert {"host", "pid", "user", "library", "format", "session_ids"} <= set(first)
    assert (last["n"], last["event"]) == (3, "end")
    assert said["prev"] == hashlib.sha256(lines[0]).hexdigest()
    assert last["prev"] == hashlib.sha256(lines[1]).hexdigest()


def test_nothing_is_made_where_nothing_happens(folder: Path, new_log: NewLog):
    new_log().close()
    assert files_in(folder) == []


def test_a_line_says_what_an_operation_did(folder: Path, new_log: NewLog):
    log = new_log(session_ids="plain")
    log(
        refused_event(
            7, context={"actor": "u-17"}, findings=(Finding(0, "unauthentic", "k~00000000"),), removed=None, took_s=0.25
        )
    )
    log.close()
    (line,) = said_in(folder)
    assert {name: line[name] for name in line if name not in ("n", "prev")} == {
        "event": "session",
        "at": "2026-12-01T09:00:00.000000Z",
        "sequence": 7,
        "operation": "get_items",
        "session": "user-1",
        "store": "SQLiteSession",
        "uses": [
            {"kid": "k~00000000", "outcome": "ok", "items": 1},
            {"kid": "k~00000000", "outcome": "unauthentic", "items": 1},
        ],
        "refused": 1,
        "findings": [{"position": 0, "outcome": "unauthentic", "kid": "k~00000000"}],
        "error": "UnreadableItemsError",
        "took_s": 0.25,
        "context": {"actor": "u-17"},
    }


_WORDS = st.text() | st.just(MARKED)
_KIDS = st.none() | _WORDS
_NUMBERS = st.integers(0, 2**70)
_MOMENTS = st.datetimes(timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=2))]))


@settings(max_examples=examples(40))
@given(
    st.builds(
        SessionEvent,
        at=_MOMENTS,
        sequence=_NUMBERS,
        operation=_WORDS,
        session=_WORDS,
        store=_WORDS,
        uses=st.lists(st.builds(ItemCount, _KIDS, _WORDS, _NUMBERS), max_size=3).map(tuple),
        refused=_NUMBERS,
        removed=st.none() | _NUMBERS,
        findings=st.lists(st.builds(Finding, _NUMBERS, _WORDS, _KIDS), max_size=2).map(tuple),
        error=st.none() | _WORDS,
        took_s=st.floats(0, 1e6),
        context=st.dictionaries(_WORDS, _WORDS, max_size=2),
    ),
    st.none() | _WORDS,
)
def test_whatever_an_event_holds_its_line_is_json_that_says_so(event: SessionEvent, session: str | None):
    line = chained(7, "0" * 64, session_line(event, session))
    assert all(0x20 <= byte < 0x7F for byte in line)
    fields = parsed(line)
    at, took_s = datetime.fromisoformat(fields.pop("at").replace("Z", "+00:00")), fields.pop("took_s")
    assert (at, took_s) == (event.at, pytest.approx(event.took_s, abs=1e-6))
    expected = {
        **event._asdict(),
        "session": session,
        "uses": [use._asdict() for use in event.uses],
        "findings": [one._asdict() for one in event.findings],
    }
    del expected["at"], expected["took_s"]
    said = {name: value for name, value in expected.items() if value is not None and value not in ([], {})}
    assert fields == {"n": 7, "prev": "0" * 64, "event": "session", **said}


def report(**more: Any) -> PurgeReport:
    fields: dict[str, Any] = {
        "store": "sqlite:///a.db", "found": {"expired": 2}, "changed": 2, "left": {"unauthentic": 1}, "stopped": None,
        "stopped_because": None, "findings": (RowFinding("user-1", "9", "unauthentic", None),), "notices": ("user-1",),
        "incomplete": (), "replicas": (), "replicas_unseen": None, "started_at": 0.0, "took_s": 1.0, "dry_run": False,
        "ttl": 60, "only": "the session user-1",
    }  # fmt: skip
    return PurgeReport(**{**fields, **more})


def test_commands_and_keys_have_lines_and_sessions_have_no_names_in_any(folder: Path, new_log: NewLog):
    log = new_log()
    log(event())
    log(RunEvent(AT, 2, "purge", "start", "sqlite:///a.db", None, None, 0.0, {}))
    log(RunEvent(AT, 2, "purge", "end", "sqlite:///a.db", report(), None, 1.0, {"actor": "root"}))
    log(KeysetEvent(AT, 3, "rotate", "end", "keyset.json", "2027", "yearly", None, 0.5, {}))
    log(KeyEvent("denied", "vault", "vault: denied", error="KeyAccessDeniedError", at=AT, seconds_left=299.5))
    log.close()
    text = "".join(Path(file).read_text() for file in files_in(folder))
    assert "user-1" not in text
    _, _, run, keyset, key = said_in(folder)
    assert run["report"] == {
        "found": {"expired": 2}, "changed": 2, "left": {"unauthentic": 1}, "dry_run": False, "ttl": 60, "ok": False,
        "limited": True, "findings": [{"outcome": "unauthentic"}],
    }  # fmt: skip
    assert (keyset["event"], keyset["command"], keyset["key"], keyset["reason"]) == (
        "keyset",
        "rotate",
        "2027",
        "yearly",
    )
    assert (key["event"], key["what"], key["seconds_left"]) == ("key", "denied", 299.5)


def test_what_it_does_not_know_it_passes_over(folder: Path, new_log: NewLog):
    log = new_log(on_failure="refuse")
    for unknown in (object(), "text", (1, 2), None):
        log(unknown)
        log.before(unknown).result()
        log.after(unknown).result()
    log.close()
    assert files_in(folder) == []


def test_markup_escapes_and_new_lines_stay_within_their_line(folder: Path, new_log: NewLog):
    log = new_log(session_ids="plain")
    uses = (ItemCount(MARKED, "unknown_key", 1),)
    log(read_event(session=MARKED, uses=uses, context={"actor": MARKED}, findings=(Finding(0, "unknown_key", MARKED),)))
    log.close()
    data = b"".join(Path(file).read_bytes() for file in files_in(folder))
    assert data.count(b"\n") == 3
    assert not [byte for byte in data.replace(b"\n", b"") if not 0x20 <= byte < 0x7F]
    (line,) = said_in(folder)
    assert line["session"] == line["uses"][0]["kid"] == line["context"]["actor"] == line["findings"][0]["kid"] == MARKED
    assert verdict_of(folder).problem is None


def test_made_up_kids_make_no_endless_line_and_no_count_is_lost(folder: Path, new_log: NewLog):
    made_up = tuple(ItemCount(f"made-up~{number:08}", "unknown_key", 2) for number in range(10_000))
    log = new_log()
    log(read_event(uses=(*made_up, ItemCount("k~00000000", "ok", 3))))
    log.close()
    (line,) = said_in(folder)
    assert len(line["uses"]) == 257
    assert line["uses"][0] == {"kid": "k~00000000", "outcome": "ok", "items": 3}
    assert line["uses"][-1] == {"kid": "other", "outcome": "unknown_key", "items": 2 * (10_000 - 255)}


# -- Files that follow each other ---------------------------------------------------------------------


def test_a_full_file_is_followed_by_another_one_with_number_and_hash(folder: Path, new_log: NewLog):
    log = new_log(rotate_bytes=4_096)
    for sequence in range(1, 41):
        log(event(sequence))
    log.close()
    files = files_in(folder)
    assert len(files) > 2
    assert all(Path(file).stat().st_size <= 4_096 for file in files)
    lines = lines_in(folder)
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["sequence"] for line in lines if line["event"] == "session"] == list(range(1, 41))
    assert [line["file"] for line in lines if line["event"] == "begin"] == list(range(1, len(files) + 1))
    verdict = verdict_of(folder)
    assert (verdict.problem, verdict.closed, verdict.lines) == (None, True, len(lines))


def test_a_log_that_is_let_go_of_is_closed(folder: Path):
    log = AuditLog(folder)
    log(event())
    del log
    gc.collect()
    assert verdict_of(folder).closed
    AuditLog(folder).close()  # and the folder is free again


@pytest.mark.parametrize("sync", ["second", "always", "never"])
def test_the_disk_is_told_as_often_as_was_said(
    folder: Path, new_log: NewLog, sync: str, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    monkeypatch.setattr("encrypted_sessions.audit.files.os.fsync", synced.append)
    monkeypatch.setattr("encrypted_sessions.audit.writing._SYNC_S", 0.05)
    log = new_log(on_failure="refuse", sync=sync)
    for sequence in range(1, 4):
        log.after(event(sequence)).result()
    if sync == "second":
        ends = time.monotonic() + 30
        while len(synced) < 2 and time.monotonic() < ends:  # the folder, and the file
            time.sleep(0.01)
        assert 2 <= len(synced) <= 5
    else:
        assert len(synced) == {"always": 4, "never": 0}[sync]


# -- Keys -----------------------------------------------------------------------------------------------


def test_pseudonyms_are_an_hmac_whose_key_the_first_line_names(folder: Path, new_log: NewLog):
    key = Key.generate("2026")
    with ring_of(key) as ring:
        log = new_log(session_ids="hashed", pseudonym_keys=ring)
        log(event(session="user-1"))
        log(RunEvent(AT, 2, "purge", "end", "sqlite:///a.db", report(), None, 1.0, {}))
        log.close()
    first, said, run, _ = lines_in(folder)
    assert first["session_kid"] == key.kid
    assert said["session"] == hmac.new(key.secret, b"user-1", "sha256").hexdigest()
    assert run["report"]["findings"][0]["session"] == said["session"]


def test_a_chain_with_keys_is_verified_with_them_alone(folder: Path, new_log: NewLog):
    key = Key.generate("chain")
    with ring_of(key) as ring, ring_of(Key.generate("chain")) as other:
        log = new_log(chain_keys=ring)
        for sequence in range(3):
            log(event(sequence))
        log.close()
        first, second, *_ = Path(files_in(folder)[0]).read_bytes().splitlines()
        assert json.loads(first)["chain"] == {"by": "hmac-sha256", "kid": key.kid}
        assert json.loads(second)["prev"] == hmac.new(key.secret, first, "sha256").hexdigest()
        assert verdict_of(folder, ring).problem is None
        assert "keyed" in str(verdict_of(folder).problem)
        assert "could not be fetched" in str(verdict_of(folder, other).problem)


def test_with_chain_keys_a_chain_without_keys_is_none(folder: Path, new_log: NewLog):
    log = new_log()
    log(event())
    log.close()
    with ring_of(Key.generate("chain")) as ring:
        assert "not keyed" in str(verdict_of(folder, ring).problem)


def test_another_active_key_begins_another_file_and_the_chain_goes_on(folder: Path, new_log: NewLog):
    keys = [Key.generate("a"), Key.generate("b")]
    with ring_of(*keys) as ring:
        log = new_log(chain_keys=ring, on_failure="refuse")
        log.after(event(1)).result()
        ring.active_sync = lambda: keys[1]  # type: ignore[method-assign]  # as after a rotation
        log.after(event(2)).result()
        log.close()
        kids = [line["chain"]["kid"] for line in lines_in(folder) if line["event"] == "begin"]
        assert kids == [key.kid for key in keys]
        assert verdict_of(folder, ring).problem is None


def test_a_place_of_keys_that_fails_is_a_failure_and_goes_on_by_itself(
    folder: Path, new_log: NewLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.audit.writing._KEYS_REST_S", 0.0)
    monkeypatch.setenv("AUDIT_KEYS", "no key")
    log = new_log(session_ids="hashed", pseudonym_keys="env:AUDIT_KEYS")
    log(event(1))
    ends = time.monotonic() + 30
    while not log.lines_lost and time.monotonic() < ends:
        time.sleep(0.01)
    assert files_in(folder) == []
    assert "the audit log cannot be written: no key could be fetched" in caplog.text
    monkeypatch.setenv("AUDIT_KEYS", Key.generate().reveal_base64())
    ends = time.monotonic() + 30
    while not said_in(folder) and time.monotonic() < ends:
        log(event(2))
        time.sleep(0.05)
    log.close()
    lost, said, *_ = said_in(folder)
    assert (lost["event"], lost["lines"]) == ("lost", log.lines_lost)
    assert said["sequence"] == 2
    assert verdict_of(folder).lost == log.lines_lost


def test_no_key_is_shown(folder: Path, new_log: NewLog, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    key = Key.generate("k")
    with ring_of(key) as ring:
        log = new_log(session_ids="hashed", pseudonym_keys=ring, chain_keys=ring)
        log(event())
        log.close()
    shown = caplog.text + repr(log) + repr(vars(log)) + "".join(Path(file).read_text() for file in files_in(folder))
    for secret in (key.reveal_base64(), key.secret.hex(), repr(key.secret)):
        assert secret not in shown


# -- What is kept elsewhere ---------------------------------------------------------------------------------


def test_number_and_hash_go_to_the_log_once_an_hour_and_at_the_end(
    folder: Path, new_log: NewLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.INFO, logger="encrypted_sessions")
    monkeypatch.setattr("encrypted_sessions.audit.writing._HASH_S", 0.2)
    log = new_log()
    log(event())
    ends = time.monotonic() + 30
    while not caplog.records and time.monotonic() < ends:
        time.sleep(0.01)
    time.sleep(0.3)  # nothing new, nothing said
    log.close()
    said = [(record.line, record.hash) for record in caplog.records]  # type: ignore[attr-defined]  # of `extra`
    lines = Path(files_in(folder)[0]).read_bytes().splitlines()
    assert said == [(number, hashlib.sha256(lines[number - 1]).hexdigest()) for number in (2, 3)]
    assert verdict_of(folder, None, parse_until(f"2:{said[0][1]}")).has_until


# -- Bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"session_ids": "hidden"}, ValueError, "'omitted', 'hashed' or 'plain', not 'hidden'"),
        ({"session_ids": None}, TypeError, "session_ids must be a str"),
        ({"session_ids": "hashed"}, ValueError, "pseudonym_keys"),
        ({"pseudonym_keys": "env:K"}, ValueError, "pseudonym_keys"),
        ({"session_ids": "hashed", "pseudonym_keys": "nowhere"}, ValueError, "must begin with a scheme"),
        ({"chain_keys": 7}, TypeError, "chain_keys must be a KeyRing, a URL or None, not int"),
        ({"on_failure": "panic"}, ValueError, "on_failure must be 'continue' or 'refuse'"),
        ({"sync": "hourly"}, ValueError, "sync must be 'second', 'always' or 'never'"),
        ({"rotate_bytes": 1}, ValueError, "4,096 or more"),
        ({"rotate_bytes": True}, TypeError, "rotate_bytes must be an int"),
    ],
)
def test_bad_arguments_are_refused(folder: Path, options: dict[str, Any], error: type[Exception], words: str):
    with pytest.raises(error, match=re.escape(words)):
        AuditLog(folder, **options)


def test_a_folder_is_to_be_there_and_its_owners_alone(folder: Path, tmp_path: Path):
    for path, words in ((tmp_path / "none", "no folder"), (Path(__file__), "is not a folder"), ("a\0b", "no folder")):
        with pytest.raises(ValueError, match=words):
            AuditLog(path)
    with pytest.raises(TypeError, match="folder must be a str or a path, not int"):
        AuditLog(7)  # type: ignore[arg-type]  # the wrong type
    for mode in (0o770, 0o702, 0o1777):
        folder.chmod(mode)
        with pytest.raises(ValueError, match="users other than its owner may write"):
            AuditLog(folder)


def test_one_folder_has_one_log_of_a_process(folder: Path, tmp_path: Path, new_log: NewLog):
    log = new_log()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ValueError, match="another AuditLog of this process writes to"):
        AuditLog(tmp_path / "link")
    log.close()
    AuditLog(tmp_path / "link").close()


def test_it_cannot_be_pickled(new_log: NewLog):
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(new_log())
