"""The inventory as a page: what stands on it, that nothing leaves it, and that nothing is lost by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from time import gmtime, strftime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from encrypted_sessions.cli import application
from encrypted_sessions.cli.inventory_page import inventory_page
from encrypted_sessions.cli.reports import MEANS
from encrypted_sessions.maintenance import AgeBucket, Group, InventoryReport, KeyUse, ReplicaState
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
    INLINE = frozenset({"code", "span", "time"})

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
        self.words += [] if tag in self.INLINE else [" "]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.words += [] if tag in self.INLINE else [" "]

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


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
    assert "Not all is well: 2 rows need a person." in page.text
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


# -- What stands on it --------------------------------------------------------------------------------


def section(text: str, title: str) -> str:
    """What stands below a heading."""
    return text.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"found": {"ok": 3, "expired": 2}}, "Every row is in order, and no key can go yet."),
        ({"free": ("old~00000000",)}, "Every row is in order, and 1 key can go."),
        ({"found": {"ok": 3, "unknown_key": 1}}, "Not all is well: 1 row needs a person."),
        ({"replicas": (ReplicaState("the standby b", False, None, "wait"),)}, "Not all is well: see below."),
        ({"stopped": "store", "stopped_because": "it is gone"}, "The run did not finish: it is gone."),
        (
            {"proven": False, "found": {"not_opened": 3}},
            "Only labels were counted, which prove nothing: no row was opened.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(fields: dict[str, object], sentence: str) -> None:
    text = inventory_page(report(**fields), "1")
    (found,) = re.findall(r'<p class="sentence \w+">(.*?)</p>', text)
    assert found == sentence


def test_the_rest_of_the_conclusion_is_a_list_and_the_counts_are_tiles() -> None:
    found = {"ok": 4_000, "expired": 300, "unauthentic": 20, "plaintext": 1}
    keys = tuple(KeyUse(f"{name}~00000000", False, 0, 0, None, None) for name in ("a", "b"))
    text = inventory_page(
        report(found=found, ttl=40 * DAY, keys=keys, free=("a~00000000",), sentences=("One.", "Two.")), "1"
    )
    assert text.count("<li>One.</li><li>Two.</li>") == 1
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert tiles == {
        "rows": "4,321",
        "in time": "4,000",
        "expired": "300",
        "need a person": "21",
        "keys that can go": "1",
    }


def test_bars_are_by_key_and_day_what_expired_is_pale_what_was_refused_hatched_and_the_ttl_a_line() -> None:
    ages = (
        AgeBucket(NOW - 3 * DAY, NOW - 2 * DAY, "old~00000000", "expired", 30),
        AgeBucket(NOW - 2 * DAY, NOW - DAY, "old~00000000", "ok", 60),
        AgeBucket(NOW - DAY, NOW, "new~00000000", "ok", 9),
        AgeBucket(NOW - DAY, NOW, "new~00000000", "unauthentic", 1),
    )
    text = section(inventory_page(report(ages=ages, ttl=2 * DAY), "1"), "Rows by the day they were sealed")
    bars = dict(re.findall(r'<path d="(\S+ \S+)" class="bar ([^"]*)"', text))
    at = {class_: float(re.match(r"M([\d.]+)", path)[1]) for path, class_ in bars.items()}  # type: ignore[index] # it has one
    assert sorted(at) == ["k0", "k0 expired", "k1", "refused"], "each key has a shade"
    assert at["k0 expired"] < at["k0"] < at["k1"] == at["refused"], "by day"
    (line,) = re.findall(r'<line x1="([\d.]+)" [^>]*class="ttl"', text)
    assert at["k0 expired"] < float(line) <= at["k0"]
    assert "older than 2d: expired" in text or "2d ago: the ttl" in text
    titles = re.findall("<title>(.*?)</title>", text)
    assert titles[-1].endswith(": 10 rows, 0 of them expired, 1 refused or not opened")
    assert len(titles) == 3
    assert all(re.match(r"\d{4}-\d\d-\d\d: ", title) for title in titles)
    legend = Page(text.partition("</figure>")[2]).text
    for entry in ("old~00000000: 60", "old~00000000, expired: 30", "new~00000000: 9", "refused, or not opened: 1"):
        assert entry in legend


def test_each_key_has_what_needs_it_what_expired_under_it_and_the_next_step() -> None:
    uses = {
        "active": KeyUse("active~00000000", True, 5, 0, NOW, NOW + DAY, expired=1),
        "needed": KeyUse("needed~00000000", False, 1_234, 0, NOW, NOW + 2 * DAY, expired=7),
        "waits": KeyUse("waits~00000000", False, 2, 0, NOW, NOW + DAY),
        "lost": KeyUse("lost~00000000", False, 0, 3, None, None),
        "expired": KeyUse("expired~00000000", False, 0, 0, None, None, expired=4),
        "free": KeyUse("free~00000000", False, 0, 0, None, None),
    }
    text = inventory_page(report(keys=tuple(uses.values()), free=("free~00000000",), ttl=40 * DAY), "1")
    rows = re.findall(r'<tr><th scope="row">(.*?)</tr>', section(text, "Keys, and what still needs them"))
    cells = {
        re.findall(r"<code>(\w+)~", row)[0]: [Page(one).text for one in re.findall("<td>(.*?)</td>", row)]
        for row in rows
    }
    shown = {name: (*found[:4], found[5]) for name, found in cells.items()}
    assert shown == {
        "active": ("active", "5", "0", "1", "purge"),
        "needed": ("needed", "1,234", "0", "7", "purge, then wait or reencrypt"),
        "waits": ("needed", "2", "0", "0", "wait, or reencrypt"),
        "lost": ("not at hand", "0", "3", "0", "add its place to --keys"),
        "expired": ("expired rows only", "0", "0", "4", "purge, then free"),
        "free": ("free", "0", "0", "0", "retire, later destroy"),
    }
    assert cells["needed"][4] == strftime("%Y-%m-%d %H:%M:%S", gmtime(NOW + 2 * DAY))
    assert cells["active"][4] == "-", "it is written with, so its rows become more"
    forecast = Page(section(text, "When keys can go")).text
    assert re.search(
        r"waits~00000000, when the last of its 2 rows.*needed~00000000, when the last of its 1,234", forecast
    )
    assert "active~" not in forecast


def test_the_commands_on_it_are_ones_that_there_are(store: StoreLocation, sealer: Sealer) -> None:
    uses = (
        KeyUse("needed~00000000", False, 1, 0, NOW, NOW + DAY, expired=7),
        KeyUse("free~00000000", False, 0, 0, None, None),
    )
    text = inventory_page(report(keys=uses, free=("free~00000000",), ttl=40 * DAY), "1")
    shown = re.findall("<li>[a-z]+: <code>(.*?)</code>", section(text, "Keys, and what still needs them"))
    commands = [Page(one).text.split() for one in shown]
    assert [words[1:3] for words in commands] == [
        ["purge", "STORE"],
        ["reencrypt", "STORE"],
        ["keys", "retire"],
        ["keys", "destroy"],
    ]
    for _, *words in commands:
        # What is asked for help tells of an option that it does not have, all the same.
        done = CliRunner().invoke(application(), [*words, "--help"], prog_name="encrypted-sessions")
        assert done.exit_code == 0, done.output


def test_each_outcome_has_what_it_means_and_what_to_do() -> None:
    text = inventory_page(report(found=dict.fromkeys(MEANS, 2)), "1")
    table = section(text, "What the rows are")
    rows = re.findall(r'<tr( class="bad")?><th scope="row"><code>(\w+)</code></th>(.*?)</tr>', table)
    assert {name for _, name, _ in rows} == set(MEANS)
    for bad, name, cells in rows:
        count, means, to_do = (Page(one).text.strip() for one in re.findall("<td>(.*?)</td>", cells))
        assert (count, bool(means), bool(to_do)) == ("2", True, True), name
        assert bool(bad) is (name not in {"ok", "expired", "not_opened"}), name


def test_it_says_what_is_not_counted() -> None:
    replicas = (
        ReplicaState("the standby a", True, None, None),
        ReplicaState("the standby b", False, 9, "wait for it"),
    )
    unseen = "nobody may look at others"
    text = inventory_page(report(replicas=replicas, replicas_unseen=unseen, other_keys={"x~00000000": 3}), "1")
    said = Page(section(text, "What is not counted")).text
    for words in (
        "Backups",
        "Other stores",
        "the standby a: up to date",
        "the standby b: may have an older state. wait for it.",
        unseen,
        "3 rows of other keys",
    ):
        assert words in said


# -- How it looks -------------------------------------------------------------------------------------------


def colours(style: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", style))


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_is_readable_in_light_in_dark_and_on_paper() -> None:
    style = inventory_page(report(), "1").partition("<style>")[2].partition("</style>")[0]
    light, rest = style.split("@media (prefers-color-scheme:dark)")
    dark, paper = rest.split("@media print{")
    schemes = [colours(light), colours(light) | colours(dark.partition("}}")[0]), colours(light) | colours(paper)]
    assert len({scheme["ground"] for scheme in schemes}) == 2
    for scheme in schemes:
        for name in ("text", "quiet", "good", "bad", "open"):
            for ground in ("ground", "raised"):
                low, high = sorted((luminance(scheme[name]), luminance(scheme[ground])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground, scheme)


def test_where_there_is_no_room_for_columns_each_cell_has_its_head() -> None:
    use = KeyUse("a~00000000", False, 1, 0, NOW, NOW + DAY)
    text = inventory_page(report(keys=(use,)), "1")
    narrow = text.partition("@media screen and (max-width:700px)")[2].partition("@media print")[0]
    for table in ("keys", "outcomes"):
        heads = re.findall(
            '<th scope="col">(.*?)</th>', text.partition(f'<table class="{table}">')[2].partition("</thead>")[0]
        )
        assert len(heads) > 3
        for place, head in enumerate(heads[1:], 2):
            assert f'.{table} td:nth-child({place}):before{{content:"{head}"}}' in narrow


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
