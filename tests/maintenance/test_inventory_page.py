"""The inventory as a page: what stands on it, that nothing leaves it, and that nothing is lost by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encrypted_sessions.cli.inventory_page import inventory_page
from encrypted_sessions.maintenance import AgeBucket, Group, InventoryReport, KeyUse
from encrypted_sessions.maintenance.ages import MOST_BUCKETS, TimeAxis
from encrypted_sessions_tests.maintenance_command import filled, report_of, run
from encrypted_sessions_tests.sealed_rows import SESSION, TTL, Sealer, message
from encrypted_sessions_tests.stores import StoreLocation

DAY = 86_400
NOW = 20_500 * DAY
EMPTY: Mapping[str, int] = {}


class Page(HTMLParser):
    """What a browser would take from a page: its tags, and where they lead; and whether all are closed."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture
def store(file: StoreLocation, sealer: Sealer) -> StoreLocation:
    rows = [
        sealer.expired(),
        sealer.row(message("under the older key"), sealer.older, age=100),
        sealer.of("unauthentic"),
        sealer.of("plaintext", "never sealed"),
        sealer.ok("sealed"),
    ]
    filled(file, {SESSION: rows})
    return file


def test_the_page_has_the_verdict_the_counts_the_keys_and_what_to_do(
    store: StoreLocation, sealer: Sealer, tmp_path: Path
):
    path = tmp_path / "page.html"
    result = run(store, sealer, "inventory", "--ttl", str(TTL), "--html", str(path))
    assert "need" in result.stdout, "the report is printed as well"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert "Not all is well. 2 rows need a person." in page.text
    for words in (sealer.active.kid, sealer.older.kid, "expired", "unauthentic", "plaintext", "encrypt seals them"):
        assert words in page.text
    assert "encrypted-sessions reencrypt STORE --keys URL --kid KEY" in page.text
    for sentence in report_of(run(store, sealer, "inventory", "--ttl", str(TTL), "--json"))["sentences"]:
        if "UTC" not in sentence:
            assert sentence in page.text


def test_the_page_requests_nothing_and_runs_nothing(store: StoreLocation, sealer: Sealer):
    result = run(store, sealer, "inventory", "--html", "-")
    assert result.stdout.startswith("<!DOCTYPE html>"), "the page alone"
    page = Page(result.stdout)
    assert not {"script", "link", "img", "iframe", "object", "base", "form", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "href", "style"}]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert not re.findall(r"url\((?!#)|@import|https?:", result.stdout)


def test_no_session_id_and_no_content_stands_on_it(file: StoreLocation, sealer: Sealer):
    filled(file, {SESSION: [sealer.of("unauthentic"), sealer.of("plaintext", "what nobody may read")]})
    text = run(file, sealer, "inventory", "--html", "-").stdout
    assert SESSION not in text
    assert "what nobody may read" not in text


def test_a_page_that_is_there_is_replaced_only_with_force_and_before_anything_is_read(
    store: StoreLocation, sealer: Sealer, tmp_path: Path
):
    path = tmp_path / "page.html"
    path.write_text("mine")
    result = run(store, sealer, "inventory", "--html", str(path))
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert path.read_text() == "mine"
    run(store, sealer, "inventory", "--html", str(path), "--force")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [one.name for one in tmp_path.iterdir() if "page" in one.name] == ["page.html"], "nothing else is left"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--html", "no/folder/page.html"), "there is no folder"),
        (("--html", "."), "is a folder"),
        (("--html", "-", "--json"), "would both go to stdout"),
    ],
)
def test_a_page_that_cannot_be_written_is_wrong_use(
    more: tuple[str, ...], words: str, store: StoreLocation, sealer: Sealer
):
    result = run(store, sealer, "inventory", *more)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_json_has_the_rows_by_age_with_times_as_rfc_3339_has_them(store: StoreLocation, sealer: Sealer):
    report = report_of(run(store, sealer, "inventory", "--ttl", str(TTL), "--json"))
    assert sum(one["items"] for one in report["ages"]) == 5
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", one["start"]) for one in report["ages"])
    assert [one["start"] for one in report["ages"]] == sorted(one["start"] for one in report["ages"])


# -- Whoever writes to the store chooses names ----------------------------------------------------------


def report(**fields: object) -> InventoryReport:
    counts: dict[str, object] = {
        "store": "a store", "found": {"ok": 1}, "changed": 0, "left": EMPTY, "stopped": None, "stopped_because": None,
        "findings": (), "notices": (), "incomplete": (), "replicas": (), "replicas_unseen": None, "started_at": NOW,
        "took_s": 1.0, "dry_run": False, "groups": (), "keys": (), "active_kid": None, "ttl": None, "proven": True,
        "conclusion": "", "sentences": (),
    }  # fmt: skip
    return InventoryReport(**{**counts, **fields})  # type: ignore[arg-type] # what each field takes


@given(st.text(min_size=1, max_size=40))
def test_whatever_a_name_holds_it_is_text_on_the_page(name: str) -> None:
    hostile = f"</style></title>'\"><script>alert(1)</script>{name}"
    text = inventory_page(
        report(
            store=hostile,
            notices=(hostile,),
            sentences=(hostile,),
            only=hostile,
            groups=(Group(hostile, 1, "ok", 1, 1, True, NOW, NOW, 10),),
            keys=(KeyUse(hostile, False, 1, 0, NOW, None),),
            ages=(AgeBucket(NOW, NOW + DAY, hostile, "ok", 1),),
            other_keys={hostile: 1},
        ),
        hostile,
    )
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)


def test_300_keys_make_a_page_of_at_most_200_kib() -> None:
    kids = [f"a-name-that-is-rather-long-{number:03}~{number:08x}" for number in range(300)]
    text = inventory_page(
        report(
            ttl=30 * DAY,
            groups=tuple(Group(kid, 1, "ok", 3_000, 9, True, NOW, NOW, 9_000_000) for kid in kids),
            keys=tuple(KeyUse(kid, False, 3_000, 0, NOW, NOW + DAY, 0, expired=9) for kid in kids),
            ages=tuple(
                AgeBucket(NOW - day * DAY, NOW - (day - 1) * DAY, kid, outcome, 9)
                for day in range(MOST_BUCKETS)
                for kid in kids
                for outcome in ("expired", "ok", "unauthentic")
            ),
        ),
        "1",
    )
    assert len(text.encode()) <= 200 * 1024


# -- Ages ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 400 * 365 * DAY), min_size=1, max_size=300))
def test_an_axis_counts_each_time_once_in_the_bucket_that_holds_it(times: list[int]) -> None:
    axis = TimeAxis()
    counts = axis.new_counts()
    for time in times:
        bucket = axis.bucket(time)
        counts[bucket] = counts.get(bucket, 0) + 1
    expected: dict[int, int] = {}
    for time in times:
        expected[time // axis.width_s] = expected.get(time // axis.width_s, 0) + 1
    assert counts == expected
    assert len(counts) <= MOST_BUCKETS
    assert axis.width_s % DAY == 0
    # No wider than it has to be.
    narrower = axis.width_s // 2
    assert axis.width_s == DAY or max(times) // narrower - min(times) // narrower >= MOST_BUCKETS


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=50))
def test_times_that_are_only_claimed_make_no_bucket_wider(claimed: list[int]) -> None:
    axis = TimeAxis()
    axis.bucket(NOW)
    for time in claimed:
        bucket = axis.reach(time)
        assert axis.first is not None
        assert axis.first <= bucket <= axis.last
    assert axis.width_s == DAY
    assert axis.last - axis.first < MOST_BUCKETS  # type: ignore[operator] # it has one
