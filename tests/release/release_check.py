"""What must hold before a release is published; `make release-check`. Each line says what holds, or what does not.

It goes by what is committed, and publishes nothing.
"""

from __future__ import annotations

import email.parser
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components import ROOT, project_table

PIPS = ROOT / ".venv-wheel" / "pips"

#: Archives of our own. Python knows the word since 3.11.4, 3.10.12; Debian 12 has 3.11.2.
_CAREFULLY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}

# What may differ between two machines that build: who may read new files, and what Python takes from its surroundings.
SURROUNDINGS = (
    {"umask": "022", "TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
    {"umask": "077", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "4294967295"},
)


class ReleaseError(Exception):
    """What hinders a release, in words that say what to do."""


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """What a command prints. Raises ReleaseError with its output where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def is_committed(_: Path) -> str:
    """A release is what is committed."""
    changed = run("git", "status", "--porcelain").strip()
    if changed:
        raise ReleaseError(f"these files are not committed:\n{changed}")
    return "all is committed"


def has_a_publisher(_: Path) -> str:
    """Where the source is, and where weaknesses are reported, is the publisher's to say."""
    urls = project_table().get("urls")
    missing = {"Source", "Issues", "Security"} - set(urls if isinstance(urls, dict) else ())
    if missing:
        named = ", ".join(sorted(missing))
        raise ReleaseError(f"[project.urls] of pyproject.toml lacks {named}, which are the publisher's to give")
    return "the publisher has said where the source is, and where to report what"


def is_in_the_changelog(_: Path) -> str:
    """The changes of this version have a date."""
    version = str(project_table()["version"])
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md has no heading `## {version} - YYYY-MM-DD`")
    return f"CHANGELOG.md has the changes of {version}, with a day"


def has_a_fresh_bill_of_materials(_: Path) -> str:
    """As the lock says."""
    run(sys.executable, ROOT / "tests" / "release" / "sbom.py", "--check")
    return "docs/sbom.cdx.json is what the lock says, and fits its schema"


def builds_alike(folder: Path) -> str:
    """Wheel and sdist, built twice where all that may differ does; and the wheel once more, from the sdist."""
    digests = []
    for number, surroundings in enumerate(SURROUNDINGS):
        tree, out = folder / f"tree-{'x' * 20 * number}{number}", folder / f"dist-{number}"
        _export(tree)
        variables = dict(surroundings)
        build = f'umask {variables.pop("umask")} && exec "$0" -m build --no-isolation --outdir "$1"'
        run("sh", "-c", build, sys.executable, out, cwd=tree, **variables)
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())})
    if digests[0] != digests[1]:
        raise ReleaseError(f"two builds differ:\n{digests[0]}\n{digests[1]}")
    with tarfile.open(_built(folder, ".tar.gz")) as archive:
        archive.extractall(folder / "from-sdist", **_CAREFULLY)  # noqa: S202 - just made, by ourselves
    (unpacked,) = (folder / "from-sdist").iterdir()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist-2", cwd=unpacked)
    (wheel,) = (folder / "dist-2").iterdir()
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != digests[0][wheel.name]:
        raise ReleaseError("the wheel that is built from the sdist is not the one that is built from the tree")
    return "built alike: " + ", ".join(f"{name} {digest}" for name, digest in digests[0].items())


def _export(tree: Path) -> None:
    tree.mkdir()
    archive = tree.with_suffix(".tar")
    run("git", "archive", "--output", archive, "HEAD")
    with tarfile.open(archive) as opened:
        opened.extractall(tree, **_CAREFULLY)  # noqa: S202 - just made, by ourselves


def _built(folder: Path, suffix: str) -> Path:
    (found,) = (folder / "dist-0").glob(f"*{suffix}")
    return found


def shows_well_on_an_index(folder: Path) -> str:
    """The index renders the description, and none of its links leads nowhere."""
    run(sys.executable, "-m", "twine", "check", "--strict", _built(folder, ".whl"), _built(folder, ".tar.gz"))
    with zipfile.ZipFile(_built(folder, ".whl")) as wheel:
        (name,) = [entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA")]
        description = str(email.parser.Parser().parsestr(wheel.read(name).decode()).get_payload())
    dead = dead_links(description)
    if dead:
        raise ReleaseError(f"these links of README lead nowhere on an index: {', '.join(dead)}")
    return "an index renders the description, and its links lead somewhere"


def dead_links(description: str) -> list[str]:
    """Links of a Markdown text that lead nowhere when it stands alone."""
    targets = re.findall(r"\]\(([^)\s]+)\)", description) + re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", description)
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", description, re.MULTILINE)
    }
    return [
        target
        for target in targets
        if not target.startswith(("https://", "http://", "mailto:")) and target.lstrip("#") not in headings
    ]


def installs_by_old_and_new_pips(folder: Path) -> str:
    """The oldest pip that is supported, and the newest."""
    pips = sorted(PIPS.glob("pip-*.whl"))
    if len(pips) != 2:
        raise ReleaseError("the two pips to try are not there: make .venv-wheel/pips")
    said = []
    for pip in pips:
        place = folder / f"venv-{pip.stem}"
        venv.create(place, with_pip=False)
        python = place / "bin" / "python"
        install = (pip / "pip", "install", "--quiet", "--no-deps", "--no-index", _built(folder, ".whl"))
        run(python, *install, PIP_DISABLE_PIP_VERSION_CHECK="1")
        version = run(
            python, "-c", "from importlib.metadata import version; print(version('encrypted-sessions'))"
        ).strip()
        if version != project_table()["version"]:
            raise ReleaseError(f"{pip.name} installed {version}")
        said.append(pip.name.split("-")[1])
    return f"pip {' and pip '.join(said)} install it"


def has_sound_workflows(_: Path) -> str:
    """They are of the form that the host takes, and give nobody rights or code that they should not."""
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    run(_tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *workflows)
    run(_tool("zizmor"), "--offline", "--persona=pedantic", "--no-progress", *workflows)
    return f"{len(workflows)} workflows are well-formed and sound"


def _tool(name: str) -> Path:
    return Path(sys.executable).parent / name


#: In this order: a later one may use what an earlier one has made.
CHECKS: Sequence[Callable[[Path], str]] = (
    is_committed,
    has_a_publisher,
    is_in_the_changelog,
    has_a_fresh_bill_of_materials,
    has_sound_workflows,
    builds_alike,
    shows_well_on_an_index,
    installs_by_old_and_new_pips,
)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Try all of them, so that one run shows all."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for check in CHECKS:
            try:
                _say(f"yes  {check(Path(folder))}")
            except ReleaseError as error:
                failed += 1
                _say(f"NO   {check.__name__.replace('_', ' ')}: {error}")
    _say("Ready to be released." if not failed else f"Not to be released: {failed} of {len(CHECKS)} do not hold.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
