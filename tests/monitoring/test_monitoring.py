"""The rules, the dashboard and the pages of docs/monitoring: they fire when they say, and name what there is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest
from agents import SQLiteSession
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider

from encrypted_sessions import EncryptedSession, ItemCount, Key, KeysetEvent, RunEvent, SessionEvent
from encrypted_sessions.core.finding import Finding
from encrypted_sessions.telemetry import instrument, names
from encrypted_sessions_tests.documents import ROOT, blocks, code_words, rows, section
from encrypted_sessions_tests.keyring_fakes import ScriptedKeys, impatient_ring
from encrypted_sessions_tests.sealed_rows import message
from keyproviders import KeyEvent

FOLDER = ROOT / "docs" / "monitoring"
README, RUNBOOKS = FOLDER / "README.md", FOLDER / "runbooks.md"
RULES, DASHBOARD = FOLDER / "prometheus-rules.yaml", FOLDER / "grafana-dashboard.json"
TESTS = ROOT / "tests" / "monitoring"

_OURS = re.compile(r"\b(?:encrypted_sessions|keyproviders)_\w+")


@pytest.mark.parametrize("file", ["rules.test.yaml", "daily-rules.test.yaml"])
def test_alerts_fire_at_the_minute_that_is_said(promtool: str, file: str):
    done = subprocess.run([promtool, "test", "rules", str(TESTS / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_documented_and_has_a_runbook_that_ends_in_a_command():
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    assert len(alerts) == len(set(alerts)) == 10
    tested = {name for file in TESTS.glob("*.yaml") for name in re.findall(r"alertname: (\w+)", file.read_text())}
    assert tested == set(alerts)
    assert [re.findall(r"\w+", cells[0])[0] for cells in rows(section(README, "Alerts"))] == alerts
    anchors = re.findall(r"runbook: docs/monitoring/runbooks\.md#(\w+)", RULES.read_text(encoding="utf-8"))
    assert anchors == [alert.lower() for alert in alerts]
    source = RUNBOOKS.read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", source, re.MULTILINE) == alerts
    last_lines = [block.text.strip().splitlines()[-1] for block in blocks(RUNBOOKS, "sh")]
    assert len(last_lines) == len(alerts)
    assert {line.split()[0] for line in last_lines} == {"encrypted-sessions"}


@pytest.fixture
def scraped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What a Prometheus would scrape from an instrumented process."""
    registry = prometheus_client.CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    if "encrypted_sessions.audit.log" not in sys.modules:
        some = SimpleNamespace(_logs=[SimpleNamespace(lines_lost=0)])  # an audit log, as far as it is looked at
        monkeypatch.setitem(sys.modules, "encrypted_sessions.audit.log", some)
    stop = instrument(meter_provider=meters)
    yield registry
    stop()
    meters.shutdown()


async def test_every_metric_and_attribute_that_a_rule_or_panel_names_exists(scraped: Any, tmp_path: Path):
    dated = Key("1", os.urandom(32), created_at=datetime.now(timezone.utc))
    failing = ScriptedKeys(dated)
    failing.fail("2", ConnectionError)
    with closing(impatient_ring(failing)) as ring, closing(SQLiteSession("s", tmp_path / "agents.db")) as store:
        session = EncryptedSession.wrap(store, ring, ttl=600)
        await session.add_items([message("one")])
        with pytest.raises(ConnectionError):
            await ring.get("2~00000000")
        with pytest.raises(TypeError):
            await session.add_items([object()])  # type: ignore[list-item]
        samples = [sample for metric in scraped.collect() for sample in metric.samples]
    exist = {sample.name for sample in samples} | {label for sample in samples for label in sample.labels}
    used = set(_OURS.findall(RULES.read_text(encoding="utf-8")))
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(targets) > 15
    for text in (*targets, json.dumps(dashboard["templating"])):
        used |= set(_OURS.findall(text))
    assert used - exist == set()
    # Each metric that there is has its row, and is shown or alerted of.
    documented = {word for cells in rows(section(README, "Metrics")) for word in code_words(cells[0])}
    metrics = {value for name, value in vars(names).items() if name in METRICS}
    assert documented == metrics
    shown = {name.replace(".", "_") for name in metrics}
    assert {name for name in shown if not any(one.startswith(name) for one in used)} == set()


METRICS = {
    *("AUDIT_LINES_LOST", "CALL_DURATION", "ITEMS", "KEY_AGE", "OPERATION_DURATION", "RING_ANSWER_AGE"),
    *("RING_EVENTS", "RING_KEYS", "RING_STUCK_CALLS", "RING_TIME_LEFT"),
}


def test_each_field_of_each_event_has_a_place_in_ecs_and_ocsf():
    found = rows(section(README, "Fields"))
    fields = {word for cells in found for word in code_words(cells[0])}
    shapes: tuple[Any, ...] = (SessionEvent, RunEvent, KeysetEvent, KeyEvent, ItemCount, Finding)
    assert {name for shape in shapes for name in shape._fields} <= fields
    assert all(len(cells) == 4 and all(cells) for cells in found)
