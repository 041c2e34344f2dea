"""`encrypted-sessions doctor`."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from keyproviders import redact_frames

from ..common_options import CommonOptions
from ..doctor_options import Fresh, MaxKeyAge, StaleRead, StaleWrite, ring_times
from ..errors import interrupted, silence_loggers, wrong_use
from ..exit_codes import FAILED, UNAVAILABLE
from ..failures import exit_code_of_checks
from ..interruption import signals_raise
from ..options import KeysURL
from ..running import complete

if TYPE_CHECKING:
    from ...doctor.diagnosis import Diagnosis
    from ...doctor.store import StoreDiagnosis

__all__ = ["HELP", "doctor"]

HELP = """Check that keys can be fetched and used, and say what to do if they cannot.

It works as an application does: it opens the provider, fetches the active key, finds it again as
another process would, seals a probe and reads it back. It reports how long each step took, how old
the key is, what a process would do in an outage, and whether another package replaced
keyproviders. No secret is printed and nothing is written; the probe is kept in memory. Several places
are checked one by one; the first one seals, and --max-key-age applies to its key. If your rings have
other settings than the defaults, such as stale_write_s, give the options of that name: a keyset whose
activation delay is too short for them fails the check.

Exit codes: 0 all is well, 1 a check failed, 2 wrong use or a wrong setting, 3 interrupted
(Ctrl-C), 4 the store or a place of keys does not exist, did not answer,
or refused."""

_STORE_HELP = "Also look up every key that this store's rows name: could a process read them?"


def doctor(
    context: typer.Context,
    url: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL]...",
            show_default=False,
            help="Where your keys are, such as env:SESSION_KEYS; or give --keys.",
        ),
    ] = None,
    *,
    keys: KeysURL = None,
    store: Annotated[str | None, typer.Option("--store", metavar="STORE", show_default=False, help=_STORE_HELP)] = None,
    upstream_key: Annotated[
        str | None,
        typer.Option(
            "--upstream-key",
            metavar="env:NAME",
            show_default=False,
            help=("With --store: the upstream_key of your sessions."),
        ),
    ] = None,
    sessions_table: Annotated[str, typer.Option(metavar="NAME", help="With --store.")] = "agent_sessions",
    messages_table: Annotated[str, typer.Option(metavar="NAME", help="With --store.")] = "agent_messages",
    key_prefix: Annotated[str, typer.Option(metavar="TEXT", help="With --store, in Redis.")] = "agents:session",
    max_key_age: MaxKeyAge = None,
    fresh: Fresh = 300,
    stale_write: StaleWrite = 900,
    stale_read: StaleRead = 86_400,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Check the keys, and with `--store` a store."""
    from ...doctor import report, store_report  # noqa: PLC0415 - loads what the doctor works with, which `--help` needs not
    from ...doctor.age import with_age_limit  # noqa: PLC0415 - likewise
    from ...doctor.examination import examine  # noqa: PLC0415 - likewise
    from ...doctor.tracing import with_tracing  # noqa: PLC0415 - likewise

    source = context.get_parameter_source("keys")
    if url and keys and source is not None and source.name == "COMMANDLINE":
        raise wrong_use("give the places as URL or with --keys, not both", "--keys")
    places = list(dict.fromkeys(url or keys or ()))
    to_examine: Sequence[str | None] = places or [None]
    cache = ring_times(fresh, stale_write, stale_read)
    silence_loggers("keyproviders")
    try:
        with signals_raise():
            diagnoses = [asyncio.run(examine(place, cache=cache)) for place in to_examine]
    except KeyboardInterrupt:
        raise interrupted() from None
    can_ask = all(diagnosis.ok for diagnosis in diagnoses)
    # The first place seals, and what is not of a place is said once.
    diagnoses[0] = with_tracing(with_age_limit(diagnoses[0], max_key_age))
    ok = can_ask and diagnoses[0].ok
    store_diagnosis = None
    if store is not None and can_ask:  # without keys there is nothing to ask
        options = CommonOptions(
            store=store,
            sessions_table=sessions_table,
            messages_table=messages_table,
            key_prefix=key_prefix,
            as_json=as_json,
            keys=places,
            upstream_key=upstream_key,
        )
        store_diagnosis = _examine_store(options)
        ok = ok and store_diagnosis.ok
    if as_json:
        found = _as_dict(diagnoses)
        if store is not None:
            found["store"] = None if store_diagnosis is None else store_report.as_dict(store_diagnosis)
        typer.echo(json.dumps(found, indent=2))
    else:
        said = [report.format_text(diagnosis, is_first=place == 0) for place, diagnosis in enumerate(diagnoses)]
        typer.echo("\n\n".join(map(str.rstrip, said)))
        if store_diagnosis is not None:
            typer.echo(f"\n{store_report.format_text(store_diagnosis)}")
        elif store is not None:
            typer.echo("\nThe store was not checked: first fix what is reported above.")
    if not ok:
        raise typer.Exit(_exit_code(diagnoses, store_diagnosis))


def _exit_code(diagnoses: Sequence["Diagnosis"], store: "StoreDiagnosis | None") -> int:
    of_store = store is not None and (store.problem is not None or store.has("key_not_answered"))
    exit_code = exit_code_of_checks(check for diagnosis in diagnoses for check in diagnosis.checks)
    return exit_code or (UNAVAILABLE if of_store else FAILED)


def _as_dict(diagnoses: Sequence["Diagnosis"]) -> dict[str, object]:
    """The first place as ever, for it seals; the others beside it."""
    from ...doctor.report import as_dict  # noqa: PLC0415 - as in `doctor`

    first, *others = map(as_dict, diagnoses)
    return {**first, "ok": all(one["ok"] for one in (first, *others)), "also_read": others} if others else first


@redact_frames
def _examine_store(options: CommonOptions) -> "StoreDiagnosis":
    from ...doctor.store import examine_store  # noqa: PLC0415 - as in `doctor`

    store, rings, upstream_key = options.open_store(), options.open_rings(), options.upstream_secret()

    async def examine() -> "StoreDiagnosis":
        async with AsyncExitStack() as stack:
            for ring in rings:
                stack.push_async_callback(ring.aclose)
            await stack.enter_async_context(store)
            return await examine_store(store, rings, upstream_key=upstream_key)

    return complete(examine())
