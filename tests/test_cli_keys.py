"""The commands `encrypted-sessions keys ...`: what they do, print and refuse, and with which code they end."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from agents import SQLiteSession
from typer.testing import CliRunner, Result

from encrypted_sessions import EncryptedSession
from encrypted_sessions.cli import application, keyset_report
from encrypted_sessions_tests.fake_wrapper import FakeKeyWrapper
from keyproviders import Key, KeyRing, KeyUnavailableError
from keyproviders.keyset import KeysetManager, urls

COMMANDS = ("create", "list", "rotate", "rewrap", "upgrade", "retire", "restore", "destroy")
DATA = Path(__file__).parent / "keyset" / "data"
BACKUPS = (
    "Copies of the keyset in backups still contain it, until they expire or the version of"
    " the key-encryption key that wraps it is destroyed."
)


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # a sentence is one line
    monkeypatch.setattr("keyproviders.aws.kms.AwsKmsKeyWrapper", FakeKeyWrapper)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keyset.json"


@pytest.fixture
def url(file: Path) -> str:
    return f"aws-kms:alias/agents?keyset=file:{file}"


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(application(), ["keys", *arguments], input=answer, prog_name="encrypted-sessions")


def done(*arguments: str, answer: str | None = None) -> str:
    """What a command prints that succeeds."""
    result = run(*arguments, answer=answer)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(*arguments: str, code: int = 1) -> str:
    """The one line of a command that fails."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def states(url: str) -> dict[str, str]:
    return {key["name"]: key["state"] for key in json.loads(done("list", url, "--json"))["keys"]}


def keyset_id(url: str) -> str:
    found = json.loads(done("list", url, "--json"))["keyset_id"]
    assert re.fullmatch("[0-9a-f]{32}", found)
    return str(found)


def made_by_0_1_0(file: Path) -> bytes:
    """The keyset of a release that knows no ids, under the fake wrapper's own name of its key."""
    shutil.copy(DATA / "keyset-0.1.0.json", file)
    return file.read_bytes()


@pytest.fixture
def retired(url: str) -> str:
    """The name of a retired key, `old`; the active one is `new`. Both are an hour old."""
    hour_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    wrapper, store, *_ = urls.open_keyset_url(url)
    manager = KeysetManager(wrapper, store, clock=hour_ago.timestamp)
    manager.create(key_name="old")
    manager.rotate(key_name="new", now=True)
    done("retire", url, "old")
    return "old"


# -- What they do -----------------------------------------------------------------------------------


def test_a_keyset_is_made_rotated_and_used_with_one_url(url: str) -> None:
    said = done("create", url, "--key-name", "first")
    assert said == (
        f"Created fake:alias/agents with the keyset 'default' in {url.partition('=')[2]}; its key first is active.\n"
        f"Add its id to the URL of each process that uses it:\n  keyset_id={keyset_id(url)}\n"
    )
    said = done("rotate", url, "--key-name", "second")
    assert re.fullmatch(
        r"Added the key second\. It becomes active at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, and each process then writes"
        r" with it from its next refresh on\.\n",
        said,
    )
    said = done("rotate", url, "--now", "--key-name", "third")
    assert said == "Added the key third. It is active; each process writes with it from its next refresh on.\n"
    assert states(url) == {"first": "decrypt-only", "second": "decrypt-only", "third": "active"}
    ring = KeyRing.from_url(url)
    try:
        assert ring.active_sync().name == "third"
    finally:
        ring.close()


@pytest.mark.parametrize("delay", ["3600", "1h"])
def test_the_activation_delay_is_that_of_the_option(url: str, delay: str) -> None:
    done("create", url, "--activation-delay", delay)
    found = json.loads(done("list", url, "--json"))
    assert found["activation_delay_s"] == 3_600
    key = json.loads(done("rotate", url, "--json"))["key"]
    waits = datetime.fromisoformat(key["activate_at"][:-1]) - datetime.fromisoformat(key["created_at"][:-1])
    assert timedelta(seconds=3_600) <= waits <= timedelta(seconds=3_660)


def test_rewrap_moves_a_keyset_to_the_key_of_its_url(url: str) -> None:
    done("create", url)
    done("rotate", url)
    moved = url.replace("alias/agents", "alias/new")
    assert done("rewrap", moved) == "Wrapped 2 keys again under alias/new.\n"
    assert {key["kek"] for key in json.loads(done("rewrap", moved, "--json"))["keys"]} == {"alias/new"}
    assert {key["kek"] for key in json.loads(done("list", moved, "--json"))["keys"]} == {"alias/new"}


def test_a_key_that_is_not_there_gets_the_one_that_may_be_meant(url: str, retired: str) -> None:
    for command, *more in (("retire",), ("restore",), ("destroy", "--yes")):
        assert refused(command, url, "odl", *more).endswith("it has old, new; did you mean old?\n"), command
    assert "key_name must be" in refused("retire", url, "old key", code=2)
    assert "did you mean" not in refused("retire", url, "third")


def test_of_a_key_id_it_is_said_which_part_the_name_is(url: str, retired: str) -> None:
    for command, *more in (("retire",), ("restore",), ("destroy", "--yes")):
        result = run(command, url, "old~0a1b2c3d", *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.endswith("give the key's name, which is the part before the ~: old\n"), command
    assert "key_name must be" in refused("retire", url, "old~no-fingerprint", code=2)


def test_a_retired_key_is_restored(url: str, retired: str) -> None:
    assert done("retire", url, retired) == (
        "The key old is retired. What was sealed with it cannot be read, until `encrypted-sessions keys restore` brings"
        " it back.\n"
    )
    assert done("restore", url, retired) == "The key old is decrypt-only.\n"
    assert states(url) == {"old": "decrypt-only", "new": "active"}


# -- Upgrade ----------------------------------------------------------------------------------------


def test_upgrade_moves_a_keyset_of_0_1_0_once_and_says_what_goes_into_the_url(file: Path) -> None:
    url = f"aws-kms:fake/agents?keyset=file:{file}"
    made_by_0_1_0(file)
    assert "It is of format 1, without an id; see `encrypted-sessions keys upgrade`." in done("list", url)
    said = done("upgrade", url)
    assert said == (
        f"fake:fake/agents with the keyset 'default' in file:{file} is of format 2.\n"
        f"Add its id to the URL of each process that uses it:\n  keyset_id={keyset_id(url)}\n"
    )
    text = file.read_text()
    assert done("upgrade", url) == said
    assert file.read_text() == text
    found = json.loads(done("upgrade", f"{url}&keyset_id={keyset_id(url)}", "--json"))
    assert found == {
        "keyset": "default",
        "keyset_id": keyset_id(url),
        "format": 2,
        "revision": 1,
        "activation_delay_s": 1_260,
        "destroy_after_s": 604_800,
    }


def test_every_command_refuses_another_keyset_than_that_of_the_url(url: str, file: Path) -> None:
    done("create", url, "--key-name", "first")
    before = file.read_text()
    for command in COMMANDS[1:]:
        name = ["first"] if command in {"retire", "restore", "destroy"} else []
        said = refused(command, f"{url}&keyset_id={'0' * 32}", *name, code=2)
        assert f"has the id {keyset_id(url)}, but keyset_id is {'0' * 32}" in said
    assert "a new keyset gets an id of its own" in refused("create", f"{url}&keyset_id={'0' * 32}", code=2)
    assert file.read_text() == before


def test_create_tells_a_program_the_id(url: str) -> None:
    made = json.loads(done("create", url, "--json"))
    assert made["keyset_id"] == keyset_id(url)
    assert made["key"]["state"] == "active"


# -- List -------------------------------------------------------------------------------------------


def test_list_prints_json_for_programs(url: str, retired: str) -> None:
    found = json.loads(done("list", url, "--json"))
    assert list(found) == [
        "keyset",
        "keyset_id",
        "format",
        "revision",
        "activation_delay_s",
        "destroy_after_s",
        "keys",
    ]
    assert (found["keyset"], found["format"], found["revision"], found["destroy_after_s"]) == ("default", 2, 3, 604_800)
    old, new = found["keys"]
    assert list(old) == [
        "name",
        "state",
        "created_at",
        "activate_at",
        "kek",
        "written_until",
        "retired_at",
        "destroyed_at",
    ]
    assert (old["name"], old["state"], old["kek"]) == ("old", "retired", "alias/agents")
    for time in ("created_at", "activate_at", "written_until", "retired_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", old[time])
    assert (new["state"], new["written_until"], new["retired_at"], new["destroyed_at"]) == ("active", None, None, None)


def test_list_is_a_table_that_a_person_likes_to_read(url: str, retired: str) -> None:
    done("rotate", url, "--key-name", "next")
    lines = done("list", url).splitlines()
    assert lines[:4] == [
        f"fake:alias/agents with the keyset 'default' in {url.partition('=')[2]}",
        f"Its id is {keyset_id(url)}; it is at revision 4.",
        "A new key becomes active 21 min after it was added.",
        "",
    ]
    head, *rows = lines[4:]
    assert head.split("  ")[0].strip() == "NAME"
    assert [row.split()[:2] for row in rows] == [["old", "retired"], ["new", "active"], ["next", "pending"]]
    assert "since" in rows[0]
    assert "active in 21 min" in rows[2]
    at = head.index("KEY-ENCRYPTION KEY")
    assert {row[at:] for row in rows} == {"alias/agents"}


@pytest.mark.parametrize(
    ("state", "of", "words"),
    [
        ("active", {}, ""),
        ("pending", {"activate_at": timedelta(seconds=90)}, "active in 90 s"),
        ("pending", {"activate_at": timedelta(seconds=-1)}, "active in 0 s"),
        ("pending", {"activate_at": timedelta(days=1)}, "active in 24.0 h"),
        ("decrypt-only", {"written_until": timedelta(minutes=1)}, "may be retired from 2026-11-23 07:01:00 on"),
        ("decrypt-only", {"written_until": timedelta(minutes=-1)}, "may be retired"),
        (
            "decrypt-only",
            {"activate_at": timedelta(minutes=9), "written_until": timedelta(minutes=1)},
            "overtaken; may be retired from 2026-11-23 07:01:00 on",
        ),
        ("retired", {"retired_at": timedelta(0)}, "since 2026-11-23 07:00:00"),
        ("destroyed", {"destroyed_at": timedelta(0)}, "since 2026-11-23 07:00:00"),
    ],
)
def test_the_table_says_what_comes_next(state: str, of: dict[str, timedelta], words: str) -> None:
    now = datetime(2026, 11, 23, 7, tzinfo=timezone.utc)
    key: dict[str, Any] = {
        "state": state,
        "activate_at": now,
        "written_until": None,
        **{name: now + after for name, after in of.items()},
    }
    assert keyset_report._remark(key, now) == words


def test_the_history_has_every_change_with_who_when_and_why(url: str, file: Path) -> None:
    done("create", url, "--key-name", "first", "--reason", "CHG-1")
    for at in range(22):
        done("rotate", url, "--now", "--key-name", f"k{at}", "--reason", f"CHG-{at + 2}")
    assert len(json.loads(file.read_text())["changes"]) == 20
    changes = json.loads(done("list", url, "--history", "--json"))["changes"]
    assert [(one["what"], one["reason"]) for one in changes] == [
        ("create", "CHG-1"),
        *(("rotate", f"CHG-{at + 2}") for at in range(22)),
    ]
    assert list(changes[0]) == ["at", "user", "host", "what", "key", "reason"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", changes[0]["at"])
    lines = done("list", url, "--history").splitlines()
    head = next(at for at, line in enumerate(lines) if line.startswith("WHEN (UTC)"))
    assert len(lines) == head + 1 + 23
    assert re.search(r" on .* create +first +CHG-1$", lines[head + 1])
    Path(f"{file}.changes").unlink()
    assert len(json.loads(done("list", url, "--history", "--json"))["changes"]) == 20
    assert "reason must be one line" in refused("rotate", url, "--now", "--reason", "two\nlines", code=2)


def test_a_change_that_cannot_be_noted_is_made_and_said(url: str, file: Path) -> None:
    Path(f"{file}.changes").mkdir()
    result = run("create", url)
    assert (result.exit_code, "Created " in result.stdout) == (0, True)
    assert f"could not be recorded beside the keyset: file:{file}.changes cannot be noted" in result.stderr
    Path(f"{file}.changes").rmdir()
    done("rotate", url)
    file.unlink()
    done("create", url)
    changes = json.loads(done("list", url, "--history", "--json"))["changes"]
    assert [one["what"] for one in changes] == ["create", "rotate", "create"]


# -- Destroy ----------------------------------------------------------------------------------------


def test_destroy_asks_first_and_says_what_ends_the_copies(url: str, retired: str) -> None:
    result = run("destroy", url, retired, "--now", retired, answer="y\n")
    assert result.exit_code == 0
    assert "What was sealed with the key old can never be read again." in result.stderr
    assert (
        f"Destroy it in fake:alias/agents with the keyset 'default' in {url.partition('=')[2]}? [y/N]" in result.stderr
    )
    assert re.fullmatch(rf"The key old was destroyed at [-0-9]+ [:0-9]+ UTC\.\n{re.escape(BACKUPS)}\n", result.stdout)
    assert states(url) == {"old": "destroyed", "new": "active"}


def test_a_key_waits_until_it_is_destroyed_and_its_name_once_more_overrides_that(
    url: str, retired: str, file: Path
) -> None:
    before = file.read_text()
    assert re.search(r"may be destroyed from \d{4}-.* --now old$", refused("destroy", url, retired, "--yes").strip())
    wrong = run("destroy", url, retired, "--yes", "--now", "new")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "once more" in wrong.stderr
    assert "only a retired key can be" in refused("destroy", url, "new", "--now", "new", "--yes")
    assert file.read_text() == before
    assert run("destroy", url, retired, "--yes", "--now", retired).exit_code == 0


async def _store_sealed_with(url: str, path: Path, **options: Any) -> None:
    async with KeyRing.from_url(url) as ring:
        store = SQLiteSession("user-1", path)
        await EncryptedSession.wrap(store, ring, ttl=600, **options).add_items([{"role": "user", "content": "one"}])
        store.close()


def test_with_stores_a_key_is_destroyed_only_once_no_row_names_it(url: str, retired: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'agents.db'}"
    once = ("destroy", url, retired, "--now", retired, "--store", store)
    assert "does not exist; nothing was created" in refused(*once, "--yes", code=4)
    done("restore", url, retired)
    former = KeysetManager(*urls.open_keyset_url(url)[:2])
    keyset = Path(former.place.rpartition("file:")[2])
    text = keyset.read_text()
    keyset.write_text(re.sub(r",\s*\{\s*\"name\": \"new\".*?\}", "", text, flags=re.DOTALL))  # as before the rotation
    asyncio.run(_store_sealed_with(url, tmp_path / "agents.db"))
    keyset.write_text(text)
    done("retire", url, retired)
    said = refused(*once, "--yes")
    assert "nothing was destroyed: 1 row names the key old in the SQLite file" in said
    assert states(url)["old"] == "retired"
    gone = CliRunner().invoke(application(), ["erase", store, "--session", "user-1", "--yes"])
    assert gone.exit_code == 0, gone.output
    assert run(*once, answer="n\n").exit_code == 1
    assert run(*once, answer="y\n").exit_code == 0
    assert states(url)["old"] == "destroyed"


def test_rows_of_a_realm_are_opened_where_the_realm_is_given(url: str, retired: str, tmp_path: Path) -> None:
    asyncio.run(_store_sealed_with(url, tmp_path / "agents.db", suite=2, realm="prod"))
    once = ("destroy", url, retired, "--now", retired, "--yes", "--realm", "prod")
    assert run(*once).exit_code == 2
    store = ("--store", f"sqlite:///{tmp_path / 'agents.db'}")
    assert "it is not known which key they need (1 unauthentic)" in refused(*once[:-2], *store)
    assert run(*once, *store).exit_code == 0
    assert states(url)["old"] == "destroyed"


def test_how_long_a_retired_key_waits_is_said_when_the_keyset_is_made_or_moved(url: str, file: Path) -> None:
    done("create", url, "--destroy-after", "12h", "--reason", "CHG-7")
    assert json.loads(done("list", url, "--json"))["destroy_after_s"] == 43_200
    assert "stays as it is" in refused("upgrade", url, "--destroy-after", "1h")
    for wrong in ("soon", "400d", "1.5"):
        assert run("create", url, "--destroy-after", wrong).exit_code == 2
    former = made_by_0_1_0(file) and f"aws-kms:fake/agents?keyset=file:{file}"
    done("upgrade", former, "--destroy-after", "0")
    assert json.loads(done("list", former, "--json"))["destroy_after_s"] == 0


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_destroyed(answer: str, url: str, retired: str, file: Path) -> None:
    before = file.read_text()
    result = run("destroy", url, retired, "--now", retired, answer=answer)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("Error: nothing was destroyed; answer with y, or give --yes in a script\n")
    assert file.read_text() == before


def test_a_script_says_yes_and_gets_json(url: str, retired: str) -> None:
    result = run("destroy", url, retired, "--now", retired, "--yes", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["key"]["state"] == "destroyed"
    assert result.stderr == f"{BACKUPS}\n"
    # A script that was killed may run again.
    assert run("destroy", url, retired, "--yes").exit_code == 0


def test_what_is_not_retired_is_refused_without_a_question(url: str, retired: str) -> None:
    assert "'new' of the keyset 'default' is active, and only a retired key can be" in refused("destroy", url, "new")
    assert "has no key 'never'; it has old, new" in refused("destroy", url, "never")


# -- What goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_keyset_that_is_not_there_or_damaged_is_one_line(command: str, url: str, file: Path) -> None:
    name = ["some-key"] if command in {"retire", "restore", "destroy"} else []
    if command != "create":
        assert f"there is no keyset 'default' in file:{file}" in refused(command, url, *name, code=2)
    file.write_text('{"format": 1}\n')
    said = refused(command, url, *name, code=4)
    assert f"the keyset 'default' in file:{file} is not a keyset: it lacks 'keyset'" in said
    assert file.read_text() == '{"format": 1}\n'


def test_create_refuses_where_a_keyset_is(url: str, file: Path) -> None:
    done("create", url)
    before = file.read_text()
    assert "already, and nothing was changed" in refused("create", url)
    assert file.read_text() == before


def test_what_is_refused_says_until_when(url: str) -> None:
    done("create", url, "--key-name", "first")
    done("rotate", url, "--key-name", "second")
    assert re.search(r"'second' .* is pending and becomes active at \d{4}-", refused("rotate", url))
    done("rotate", url, "--now")
    assert re.search(r"may write with the key 'first' .* until \d{4}-", refused("retire", url, "first"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given", ["env:SESSION_KEYS", "keyset.json", "aws-kms:alias/agents", ""])
def test_a_url_that_cannot_be_one_is_wrong_use(command: str, given: str) -> None:
    name = ["some-key"] if command in {"retire", "restore", "destroy"} else []
    assert "keyset=file:/etc/agents/keyset.json" in refused(command, given, *name, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["create"],
        ["create", "URL", "--activation-delay", "0"],
        ["create", "URL", "--activation-delay", "31622401"],
        ["create", "URL", "--activation-delay", "soon"],
        ["retire", "URL"],
        ["rotate", "URL", "NAME"],
        ["list", "URL", "--yes"],
        ["frobnicate"],
    ],
)
def test_wrong_use_ends_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_a_key_as_a_url_or_a_name_is_not_printed(url: str) -> None:
    text = Key.generate().reveal_base64().rstrip("=")
    done("create", url)
    for arguments in (["list", text], ["retire", url, text], ["rotate", url, "--key-name", text]):
        result = run(*arguments)
        assert result.exit_code in {1, 2}
        assert text[:8] not in result.output + result.stderr


def test_a_place_that_does_not_answer_is_one_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        logging.getLogger("keyproviders").error("told twice")
        raise KeyUnavailableError("aws-kms:alias/agents did not answer\nwithin 2 s")

    monkeypatch.setattr(FakeKeyWrapper, "generate", fail)
    assert refused("create", url, code=4) == "Error: aws-kms:alias/agents did not answer within 2 s\n"


def test_an_interrupted_command_ends_with_3(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeKeyWrapper, "generate", interrupt)
    result = run("create", url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Interrupted. ")


def test_a_command_closes_what_it_opened(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []

    def close(wrapper: FakeKeyWrapper) -> None:
        closed.append(wrapper)

    monkeypatch.setattr(FakeKeyWrapper, "close", close)
    done("create", url)
    refused("create", url)
    assert len(closed) == 2


# -- Help -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_states_the_exit_codes_and_fits_a_terminal(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    stdout = done(*command, "--help")
    assert "Exit codes: 0 done, 1 failed or refused, 2 wrong use, 3 interrupted" in " ".join(stdout.split())
    assert max(map(len, stdout.splitlines())) <= 80


def test_help_lists_the_commands_and_shows_whole_urls() -> None:
    stdout = done("--help")
    for command in COMMANDS:
        assert f"\n  {command} " in stdout
    assert "\n    aws-kms:alias/agents?keyset=file:/etc/agents/keyset.json\n" in stdout
    above = CliRunner().invoke(application(), ["--help"]).stdout
    assert re.search(r"\n  keys +Create and change a keyset that a fleet shares\.\n", above)
