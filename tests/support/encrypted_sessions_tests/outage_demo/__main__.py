"""`make demo-outage`, or `python -m encrypted_sessions_tests.outage_demo`."""

from __future__ import annotations

import signal
import sys

from .story import show

__all__ = ["main"]


def main() -> int:
    """Show it on stdout: 0 when no turn failed within the bounds, 1 otherwise, 3 when interrupted."""
    if not hasattr(signal, "SIGSTOP"):
        sys.stderr.write("Error: this system cannot stop and continue a process, which the demo shows.\n")
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As by Ctrl-C, so that nothing is left behind.
        signal.signal(number, signal.default_int_handler)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        seen = show(say)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 3
    return int(seen.failed > 0 or not seen.turns_within)


if __name__ == "__main__":
    sys.exit(main())
