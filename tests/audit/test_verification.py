"""`verify_files`: any line that was altered, dropped, moved or made up is found, and where."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encrypted_sessions import Key, KeyRing
from encrypted_sessions.audit import AuditLog
from encrypted_sessions.audit.verification import LogVerdict, Until, parse_until, verify_files
from encrypted_sessions_tests.audit_files import event, files_in
from keyproviders.local import StaticKeyProvider

LINES = 40


class Whole:
    """A log of several files, and what it is verified with."""

    def __init__(self, folder: Path, ring: KeyRing | None) -> None:
        self.folder, self.ring = folder, ring
        with contextlib.closing(AuditLog(folder, chain_keys=ring, rotate_bytes=4_096, sync="never")) as log:
            for sequence in range(1, LINES + 1):
                log(event(sequence))
        self.names = [Path(file).name for file in files_in(folder)]
        self.lines = [Path(file).read_bytes().splitlines(keepends=True) for file in files_in(folder)]
        self.last = parse_until(f"{self.verdict(self.lines).lines}:{self.verdict(self.lines).hash}")

    def verdict(self, files: list[list[bytes]], until: Until | None = None) -> LogVerdict:
        """The one of the files with these lines; files without lines are not there."""
        paths = []
        for name, lines in zip(self.names, files, strict=False):
            if lines:
                path = self.folder / f"changed-{name}"
                path.write_bytes(b"".join(lines))
                paths.append(str(path))
        verdicts = verify_files(paths, self.ring, until)
        return next((verdict for verdict in verdicts if verdict.problem), verdicts[0])


@pytest.fixture(scope="module", params=["sha256", "hmac-sha256"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("audit", numbered=True)
    if request.param == "sha256":
        yield Whole(folder, None)
        return
    with contextlib.closing(KeyRing(StaticKeyProvider(Key.generate("chain")))) as ring:
        yield Whole(folder, ring)


def places(whole: Whole) -> list[tuple[int, int]]:
    return [(file, line) for file, lines in enumerate(whole.lines) for line in range(len(lines))]


def test_it_is_whole_with_its_files_in_any_order(whole: Whole):
    assert len(whole.lines) > 3
    verdict = whole.verdict(whole.lines, whole.last)
    assert (verdict.problem, verdict.closed, verdict.has_until) == (None, True, True)
    assert verdict.lines == LINES + len(whole.lines) + 1
    backwards = verify_files(files_in(whole.folder)[::-1], whole.ring)
    assert next((one.problem, one.lines) for one in backwards) == (None, verdict.lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_is_found(whole: Whole, data: st.DataObject):
    files = [list(lines) for lines in whole.lines]
    file, line = data.draw(st.sampled_from(places(whole)))
    change = data.draw(st.sampled_from(["alter", "drop", "swap", "repeat", "cut", "drop a file", "make up"]))
    is_last = (file, line) == places(whole)[-1]
    if change == "alter":
        at = data.draw(st.integers(0, len(files[file][line]) - 1))
        other = data.draw(st.integers(1, 255))
        files[file][line] = b"".join(
            (files[file][line][:at], bytes([files[file][line][at] ^ other]), files[file][line][at + 1 :])
        )
    elif change == "drop":
        del files[file][line]
    elif change == "swap":
        other_file, other_line = data.draw(st.sampled_from(places(whole)))
        if (other_file, other_line) == (file, line):
            return
        is_last = False
        mine, theirs = files[file][line], files[other_file][other_line]
        files[file][line], files[other_file][other_line] = theirs, mine
    elif change == "repeat":
        is_last = False
        files[file].insert(line, files[file][line])
    elif change == "cut":
        files[file][line] = files[file][line][: data.draw(st.integers(1, len(files[file][line]) - 1))]
    elif change == "drop a file":
        is_last = file == len(files) - 1
        files[file] = []
    else:
        fields = {**json.loads(files[file][line]), "operation": "made up"}
        files[file][line] = json.dumps(fields).encode() + b"\n"
    verdict = whole.verdict(files, whole.last)
    assert verdict.problem or not verdict.has_until
    if not is_last:  # what comes after the last line, or in its place, shows by what was kept elsewhere alone
        assert whole.verdict(files).problem


def test_where_a_line_was_altered_or_is_missing_is_said(whole: Whole):
    files = [list(lines) for lines in whole.lines]
    files[0][3] = files[0][3].replace(b"add_items", b"get_items")
    assert "line 5 (number 5): it does not follow" in str(whole.verdict(files).problem)
    files = [list(lines) for lines in whole.lines]
    del files[0][3:6]
    assert "line 4: lines 4 to 6 are missing" in str(whole.verdict(files).problem)
    assert whole.verdict(files).lines == 3
    files = [list(lines) for lines in whole.lines]
    files[0] = []
    assert "missing or out of order before it" in str(whole.verdict(files).problem)


def test_a_log_without_its_last_line_is_not_closed_and_in_order(whole: Whole):
    files = [*whole.lines[:-1], whole.lines[-1][:-1]]
    verdict = whole.verdict(files)
    assert (verdict.problem, verdict.closed) == (None, False)


def test_who_has_no_key_cannot_chain_anew(whole: Whole):
    """Without keys anybody can: that is what they are there for."""
    import hashlib

    prev, forged = "0" * 64, []
    for raw in [line for lines in whole.lines for line in lines]:
        fields = {**json.loads(raw), "prev": prev}
        if fields["event"] == "begin" and forged:
            fields["event"] = "session"
        line = json.dumps(fields).encode()
        prev = hashlib.sha256(line).hexdigest()
        forged.append(line + b"\n")
    assert bool(whole.verdict([forged]).problem) == (whole.ring is not None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[" * 100_000 + b"\n",
        b'{"n":' + b"9" * 5_000 + b"}\n",
        b'{"n":true,"prev":""}\n',
        b'{"n":1,"prev":"0","event":"begin","log":[],"chain":{}}\n',
        b'{"n":1,"prev":"0","event":"begin","log":"a","chain":{"by":"hmac-sha256","kid":{}}}\n',
        b"\xff\xfe\x00\n",
        b"x" * 100,
    ],
)
def test_what_is_no_log_is_said_to_be_none(tmp_path: Path, content: bytes):
    file = tmp_path / "audit.jsonl"
    file.write_bytes(content)
    (verdict,) = verify_files([str(file)])
    assert str(verdict.problem).startswith(f"{file}, line 1 ")
    assert not verdict.lines


@pytest.mark.parametrize("text", ["", "1", "1:", f"0:{'0' * 64}", f"1:{'0' * 63}", f"1:{'A' * 64}", f"1:{'0' * 64}\n"])
def test_what_was_kept_elsewhere_has_a_number_and_a_hash(text: str):
    with pytest.raises(ValueError, match="NUMBER:HASH"):
        parse_until(text)
