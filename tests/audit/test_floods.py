"""Refusals by the thousand: few lines, and no count that is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encrypted_sessions import ItemCount, SessionEvent
from encrypted_sessions.audit import AuditLog
from encrypted_sessions.audit.floods import Floods
from encrypted_sessions.audit.lines import session_names
from encrypted_sessions_tests.audit_files import read_event, refused_event, said_in, verdict_of

NewLog = Callable[..., AuditLog]


def totals(lines: list[dict[str, object]]) -> Counter[str]:
    """How many rows were found to be what, as lines say it."""
    counts: Counter[str] = Counter()
    for line in lines:
        times = int(line.get("repeated", 1))  # type: ignore[call-overload]
        if line["event"] == "other":
            counts.update(line["outcomes"])  # type: ignore[arg-type]
        for use in line.get("uses", ()):  # type: ignore[attr-defined]
            counts[use["outcome"]] += use["items"] * times
    return counts


def test_the_first_goes_out_at_once_and_further_ones_as_one_line(
    folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("encrypted_sessions.audit.writing.FOLD_S", 0.3)
    log = new_log()
    for sequence in range(1, 1_001):
        log(refused_event(sequence, context={"actor": "u-17", "request_id": str(sequence)}))
    log(read_event(1_001))
    ends = time.monotonic() + 30
    while not (found := [line for line in said_in(folder) if "repeated" in line]):
        assert time.monotonic() < ends
        time.sleep(0.01)
    log.close()
    first, *rest = said_in(folder)
    assert first["sequence"] == 1
    assert totals([first, *rest]) == {"ok": 1_001, "unauthentic": 1_000}
    assert len(rest) < 100
    assert [line["operation"] for line in rest if line.get("sequence") == 1_001] == ["get_items"]
    assert found[0]["context"].get("actor") == "u-17"  # what all had in common
    assert found[0]["uses"] == first["uses"]
    assert "sequence" not in found[0]
    assert verdict_of(folder).problem is None


def test_with_refuse_nothing_is_folded(folder: Path, new_log: NewLog):
    log = new_log(on_failure="refuse")
    for sequence in range(1, 11):
        log.after(refused_event(sequence)).result()
    log.close()
    assert [line["sequence"] for line in said_in(folder)] == list(range(1, 11))


def test_what_was_read_well_is_never_folded(folder: Path, new_log: NewLog):
    log = new_log()
    for sequence in range(1, 11):
        log(read_event(sequence))
    log.close()
    assert [line["sequence"] for line in said_in(folder)] == list(range(1, 11))


def test_ten_thousand_kinds_make_a_thousand_lines_and_no_count_is_lost(folder: Path, new_log: NewLog):
    log = new_log()
    for number in range(10_000):
        while log.refuses and number % 1_000 == 0:
            time.sleep(0.001)
        log(refused_event(number, uses=(ItemCount(f"made-up~{number:08}", "unknown_key", 2),), refused=2))
    log.close()
    lines = said_in(folder)
    (other,) = [line for line in lines if line["event"] == "other"]
    assert len(lines) == 1_001
    assert (other["repeated"], other["refused"]) == (9_000, 18_000)
    assert totals(lines) == {"unknown_key": 20_000}
    assert log.lines_lost == 0


_EVENTS = st.lists(
    st.builds(
        lambda session, kid, items: refused_event(
            session=session, uses=(ItemCount(kid, "unauthentic", items),), refused=items
        ),
        st.sampled_from("abc"),
        st.sampled_from(["k~1", "k~2", None]),
        st.integers(1, 3),
    )
)


@given(st.lists(_EVENTS, max_size=4))
def test_no_count_is_lost_whatever_comes(minutes: list[list[SessionEvent]]):
    floods, lines = Floods(), []
    name = session_names("plain", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encrypted_sessions.audit.floods.MOST_KINDS", 4)
        for events in [*minutes, []]:
            firsts = [event for event in events if not floods.fold(event)]
            lines += [{"event": "session", "uses": [use._asdict() for use in event.uses]} for event in firsts]
            lines += [line.fields(name) for line in floods.flush()]
    expected: Counter[str] = Counter()
    for event in (event for events in minutes for event in events):
        expected["unauthentic"] += event.uses[0].items
    assert totals(lines) == expected


def test_folded_lines_that_cannot_be_written_are_owed(folder: Path, new_log: NewLog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encrypted_sessions.audit.writing.FOLD_S", 0.1)
    log = new_log()
    for sequence in range(1, 5):
        log(refused_event(sequence))
    while log.refuses:
        time.sleep(0.001)
    with monkeypatch.context() as context:

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        context.setattr("encrypted_sessions.audit.files.AuditFile.append", fail)
        time.sleep(0.5)
    log.close()
    assert sum(line["repeated"] for line in said_in(folder) if "repeated" in line) == 3
    assert log.lines_lost == 0
