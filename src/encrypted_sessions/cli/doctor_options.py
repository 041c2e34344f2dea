"""The options by which `doctor` is told what it cannot see: the numbers of your rings, and the rules of your house."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .durations import whole_seconds
from .errors import checked

if TYPE_CHECKING:
    from keyproviders import CachePolicy

__all__ = ["Fresh", "MaxKeyAge", "StaleRead", "StaleWrite", "ring_times"]

MaxKeyAge = Annotated[
    int | None,
    typer.Option(
        "--max-key-age",
        metavar="TIME",
        parser=whole_seconds(),
        show_default=False,
        help="How old the key that seals may be, such as 90d. If it is older, or its age is not known, exit with 1.",
    ),
]


def _of_your_rings(option: str, field: str) -> object:
    return typer.Option(
        option, metavar="TIME", parser=whole_seconds(), help=f"{field} of your rings' CachePolicy, in whole seconds."
    )


Fresh = Annotated[int, _of_your_rings("--fresh", "fresh_s")]
StaleWrite = Annotated[int, _of_your_rings("--stale-write", "stale_write_s")]
StaleRead = Annotated[int, _of_your_rings("--stale-read", "stale_read_s")]


def ring_times(fresh_s: int, stale_write_s: int, stale_read_s: int) -> CachePolicy:
    """The policy of rings with these numbers. Ends the command where there can be none."""
    from keyproviders import CachePolicy  # noqa: PLC0415 - `--help` needs no keys

    def policy() -> CachePolicy:
        return CachePolicy(fresh_s=fresh_s, stale_write_s=stale_write_s, stale_read_s=stale_read_s)

    return checked(policy)
