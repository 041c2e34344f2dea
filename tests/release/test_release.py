"""The bill of materials, the licences, and what a release is checked with."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SBOM = json.loads((ROOT / "docs" / "sbom.cdx.json").read_text(encoding="utf-8"))
# What packages write that name their licence in words, or only by a classifier.
SPDX = {
    "Apache 2": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "PSF": "PSF-2.0",
}


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {one["name"].partition(":")[2]: one["value"] for one in component.get("properties", ())}


def test_the_bill_of_materials_is_what_the_lock_of_the_core_and_its_extras_says(components: ModuleType):
    installed = components.read_extras_lock()
    listed = {(one["name"], one["version"], properties(one).get("only-where")) for one in SBOM["components"]}
    assert listed == {(one.name, one.version, one.marker) for one in installed}


def test_it_says_which_extra_brings_what_and_what_the_core_requires(components: ModuleType):
    extras = components.extras_of(components.read_extras_lock())
    for one in SBOM["components"]:
        brought_by = [extra or "core" for extra in extras[one["name"]]]
        assert properties(one)["brought-by"] == ", ".join(brought_by)
        assert (one["scope"] == "required") == ("core" in brought_by)
    required = {one["name"] for one in SBOM["components"] if one["scope"] == "required"}
    assert (
        {"cryptography", "tenacity"}
        <= required
        <= {"cryptography", "tenacity", "cffi", "pycparser", "typing-extensions"}
    )


def test_it_knows_all_that_the_project_asks_for_and_what_that_asks_for(components: ModuleType):
    needs = {one["ref"]: set(one.get("dependsOn", ())) for one in SBOM["dependencies"]}
    wheel = SBOM["metadata"]["component"]
    asked = {ref.partition("@")[0].removeprefix("pkg:pypi/") for ref in needs[wheel["bom-ref"]]}
    assert asked == {name for names in components.direct().values() for name in names}
    reached, more = set(), {wheel["bom-ref"]}
    while more:
        reached |= more
        more = {ref for one in more for ref in needs.get(one, ())} - reached
    assert reached == {wheel["bom-ref"], *(one["bom-ref"] for one in SBOM["components"])}


def test_it_is_of_this_version_and_its_licences_are_those_of_the_table(components: ModuleType):
    assert SBOM["metadata"]["component"]["version"] == metadata.version("encrypted-sessions")
    licences = components.read_licences()
    assert {one["name"]: one["licenses"][0]["expression"] for one in SBOM["components"]} == licences


def test_the_table_says_of_each_package_what_brings_it(components: ModuleType):
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", text, re.MULTILINE))
    extras = components.extras_of(components.read_extras_lock())
    assert {name: cell.replace("`", "") for name, cell in rows.items()} == {
        name: ", ".join(extra or "core" for extra in brought_by) for name, brought_by in extras.items()
    }


def test_the_table_has_the_licence_that_each_package_names(components: ModuleType):
    compared = 0
    for name, listed in components.read_licences().items():
        try:
            fields = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue  # it is for other systems, or other Pythons
        assert listed == licence_of(fields), name
        compared += 1
    assert compared > 40


def licence_of(fields: metadata.PackageMetadata) -> str:
    """As SPDX writes it, whichever of three ways the package does."""
    if expression := fields.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rpartition(" :: ")[2] for line in fields.get_all("Classifier", []) if line.startswith("License ::")
    ]
    words = str(fields.get("License") or classifiers[0])
    return SPDX.get(words, SPDX.get(words.partition(" (")[0], words))


def test_a_link_that_leads_nowhere_on_an_index_is_found(release_check: ModuleType):
    text = (
        "# A title\n[a](docs/a.md) [b](https://example.org) [c](#a-title) [d](#none)"
        ' <img src="e.svg"> [f](mailto:x@example.org)\n'
    )
    assert release_check.dead_links(text) == ["docs/a.md", "#none", "e.svg"]


def test_the_description_of_the_installed_package_has_no_such_link(release_check: ModuleType):
    description = str(metadata.metadata("encrypted-sessions").get_payload())
    assert description.startswith("# ")
    assert release_check.dead_links(description) == []


def test_each_action_of_the_workflows_is_pinned_and_says_as_which_version():
    used = [
        line.strip()
        for workflow in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
        for line in workflow.read_text(encoding="utf-8").splitlines()
        if "uses:" in line
    ]
    assert len(used) >= 5
    for line in used:
        assert re.fullmatch(r"- uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.soak
def test_two_builds_in_other_surroundings_are_equal_byte_for_byte(release_check: ModuleType, tmp_path: Path):
    assert "built alike" in release_check.builds_alike(tmp_path)


TOOL = """
import json, sys
said = json.loads(open({said!r}).read())
if said is None:
    sys.exit("ERROR: the database cannot be reached")
open(sys.argv[sys.argv.index("--output") + 1], "w").write(json.dumps({{"dependencies": said}}))
sys.exit(any(one.get("vulns") for one in said))
"""


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "some.txt: 1 packages, no known weakness"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-2026-1"}]}], 1, "WEAK some.txt: a 1: CVE-2026-1"),
        ([{"name": "a", "skip_reason": "unknown"}], 2, "NOT AUDITED some.txt: nothing is known of a"),
        (None, 2, "NOT AUDITED some.txt: ERROR: the database cannot be reached"),
    ],
    ids=["nothing found", "a weakness", "a package that the database does not know", "no database"],
)
def test_an_audit_tells_a_weakness_from_a_database_that_knows_nothing(
    said: object, code: int, words: str, audit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "said.json").write_text(json.dumps(said))
    (tmp_path / "pip_audit").mkdir()
    (tmp_path / "pip_audit" / "__main__.py").write_text(TOOL.format(said=str(tmp_path / "said.json")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert audit.audit(Path("some.txt"), tmp_path / "report.json") == (code, words)


def test_names_of_the_lock_are_written_as_indexes_write_them(components: ModuleType):
    assert all(one.name == canonicalize_name(one.name) for one in components.read_extras_lock())


def test_the_page_on_support_names_the_newest_minor_release_and_the_one_before_it():
    released = re.findall(r"^## (\d+\.\d+)\.\d+ - ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    newest, before = [*dict.fromkeys(released)][:2]
    assert metadata.version("encrypted-sessions").startswith(f"{newest}.")
    page = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    assert f"the newest minor release, {newest}, and the one before it, {before}, for 12 months" in page
