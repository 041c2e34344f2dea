"""Write the bill of materials that the wheel carries: docs/sbom.cdx.json, in CycloneDX.

    .venv-release/bin/python tests/release/sbom.py            writes it
    .venv-release/bin/python tests/release/sbom.py --check    ends with an error where it is not what it would write

It is the same at any time and on any machine: all of it comes from pyproject.toml, the lock and docs/dependencies.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from components import PROJECT, ROOT, Installed, direct, extras_of, project_table, read_extras_lock, read_licences
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

SBOM = ROOT / "docs" / "sbom.cdx.json"


def bill_of_materials() -> str:
    """The document's text."""
    project = project_table()
    installed, licences = read_extras_lock(), read_licences()
    extras = extras_of(installed)
    wheel = Component(
        name=PROJECT,
        version=project["version"],
        type=ComponentType.LIBRARY,
        bom_ref=f"pkg:pypi/{PROJECT}@{project['version']}",
        purl=PackageURL("pypi", name=PROJECT, version=project["version"]),
        licenses=[LicenseExpression(project["license"])],
        description=project["description"],
    )
    components = {one.ref: _component(one, extras[one.name], licences[one.name]) for one in installed}
    bom = Bom(
        components=components.values(),
        serial_number=uuid5(NAMESPACE_URL, wheel.purl.to_string() if wheel.purl else PROJECT),
    )
    bom.metadata.component = wheel
    bom.metadata.timestamp = _day_of_lock()
    bom.metadata.tools.components.clear()
    asked = {name for names in direct().values() for name in names}
    bom.register_dependency(wheel, [components[one.ref] for one in installed if one.name in asked])
    for one in installed:
        needs = [components[other.ref] for other in installed if one.name in other.asked_for_by]
        bom.register_dependency(components[one.ref], needs)
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    if (problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise SystemExit(f"The bill of materials does not fit its schema: {problem}")
    return text


def _component(one: Installed, extras: list[str], licence: str) -> Component:
    brought_by = ", ".join(extra or "core" for extra in extras)
    properties = [Property(name=f"{PROJECT}:brought-by", value=brought_by)]
    if one.marker is not None:
        properties.append(Property(name=f"{PROJECT}:only-where", value=one.marker))
    return Component(
        name=one.name,
        version=one.version,
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED if "" in extras else ComponentScope.OPTIONAL,
        bom_ref=one.ref,
        purl=PackageURL("pypi", name=one.name, version=one.version),
        licenses=[LicenseExpression(licence)],
        properties=properties,
    )


def _day_of_lock() -> datetime:
    text = (ROOT / "requirements-extras.txt").read_text(encoding="utf-8")
    found = re.search(r"UNTIL=(\d{4}-\d\d-\d\d)", text)
    if found is None:
        raise SystemExit("requirements-extras.txt does not say as of which day it was made")
    return datetime.fromisoformat(f"{found[1]}T00:00:00+00:00")


def main() -> None:
    """Write it, or see whether it is as it would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = bill_of_materials()
    if not parser.parse_args().check:
        SBOM.write_text(text, encoding="utf-8")
    elif SBOM.read_text(encoding="utf-8") != text:
        sys.exit("docs/sbom.cdx.json is not what the lock says: make sbom")


if __name__ == "__main__":
    main()
