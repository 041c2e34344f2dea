"""Ask a database of known weaknesses about all that the locks hold; `make audit`. Exit 0 only if it knew and had none.

pip-audit ends with 0 also for packages that its database knows nothing of, unless it is `--strict`; and with 1 both for
a weakness and for a database that cannot be reached. Here the two are told apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements-extras.txt", "requirements-dev.txt", "requirements-release.txt")
_RED, _PLAIN = ("\033[1;31m", "\033[0m") if sys.stdout.isatty() else ("", "")


def audit(lock: Path, report: Path) -> tuple[int, str]:
    """The exit code for one lock, and what to print: 0 without findings, 1 with some, 2 where it was not audited."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--strict",
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner",
        "off",
    ]
    command += ["--format", "json", "--output", str(report), "--requirement", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    except (OSError, ValueError, KeyError):
        why = (done.stderr.strip().splitlines() or ["pip-audit gave no report"])[-1]
        return 2, f"{_RED}NOT AUDITED{_PLAIN} {lock.name}: {why}"
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    if skipped:
        return 2, f"{_RED}NOT AUDITED{_PLAIN} {lock.name}: nothing is known of {', '.join(skipped)}"
    found = [
        f"{one['name']} {one['version']}: {', '.join(weak['id'] for weak in one['vulns'])}"
        for one in dependencies
        if one["vulns"]
    ]
    if found:
        return 1, f"{_RED}WEAK{_PLAIN} {lock.name}: {'; '.join(found)}"
    return 0, f"{lock.name}: {len(dependencies)} packages, no known weakness"


def main() -> int:
    """All locks, and the worst of their exit codes."""
    worst = 0
    for name in LOCKS:
        with tempfile.TemporaryDirectory() as folder:
            code, text = audit(ROOT / name, Path(folder) / "report.json")
        sys.stdout.write(f"{text}\n")
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
