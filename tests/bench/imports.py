"""What importing costs, in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from measuring import Samples, Table, Taken, in_turn, ms

_TARGET = 1.5
_FERNET = "import cryptography.fernet"
_OURS = "import encrypted_sessions"
_NAMES = "from encrypted_sessions import EncryptedSession, KeyRing"
# With a session beneath that costs nothing.
_FIRST_SESSION = f"""
class Beneath:
    session_id = "user-1"
    get_items = add_items = pop_item = clear_session = lambda self: None
{_NAMES}
EncryptedSession.wrap(Beneath(), KeyRing.ephemeral(), ttl=60)
"""
_NOT_LOADED = ("agents", "openai", "tenacity", "hvac", "boto3", "sqlalchemy", "redis", "typer", "rich")


async def measure(*, quick: bool) -> Table:
    table = Table(
        "Importing",
        ("statement", "median", "ratio", "target", "met"),
        "In a fresh interpreter that has loaded asyncio, with cached byte code; the candidates alternate. None of"
        f" these loads any of {', '.join(_NOT_LOADED)}. `EncryptedSession` and the key ring are loaded when they"
        " are first named. The first session wraps a class that no store knows, so the entry points of all"
        " packages are searched for one, once per process.",
    )
    samples = Samples()
    with tempfile.TemporaryDirectory() as folder:
        # Not the byte code that lies about, which may be of another state of the source.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PYTHONPYCACHEPREFIX"] = folder
        statements = (_FERNET, _OURS, _NAMES, _FIRST_SESSION)
        for number, order in enumerate(in_turn(statements, 7 if quick else 61)):
            for statement in order:
                taken = _import(statement, environment)
                if number:  # the first round compiles
                    samples.add(statement, taken)
    table.add(_FERNET, ms(samples.median(_FERNET)), "", "", "")
    ratio = samples.ratio(_OURS, _FERNET)
    table.add(_OURS, ms(samples.median(_OURS)), f"{ratio:.2f}", *table.judged(_OURS, ratio, _TARGET))
    for label, statement in ((_NAMES, _NAMES), ("the same, and the first session made", _FIRST_SESSION)):
        median, ratio = samples.median(statement), samples.ratio(statement, _FERNET)
        table.add(label, ms(median), f"{ratio:.2f}", "", "")
    return table


def _import(statement: str, environment: dict[str, str]) -> Taken:
    program = (
        "import asyncio, sys, time\n"
        "wall, cpu = time.perf_counter(), time.process_time()\n"
        f"{statement}\n"
        "print(time.perf_counter() - wall, time.process_time() - cpu,"
        f" *[name for name in {_NOT_LOADED!r} if name in sys.modules])\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    wall, cpu, *loaded = output.split()
    if loaded:
        raise AssertionError(f"{statement} loads {', '.join(loaded)}")
    return Taken(float(wall), float(cpu))
