"""One module a command: what it takes, its help, and what it calls.

All of them are imported to show any `--help`. So they load what they work with when they run: the
face of `maintenance` loads an operation when it is asked for, and the rest is imported by the
function that needs it.

None of them has `from __future__ import annotations`: typer evaluates every annotation at each start,
and evaluating them from text takes longer than importing the modules.
"""
