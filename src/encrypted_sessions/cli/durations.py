"""Options that take a time: `600`, `90m`, `12h`, `1d`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from .._support.durations import parse_duration

__all__ = ["whole_seconds"]


def whole_seconds(*, least: int = 1, most: int | None = None, or_none: bool = False) -> Callable[[object], int | None]:
    """What reads such an option as seconds, for typer. With `or_none` it may be `none`: there is no end."""

    def parse(given: object) -> int | None:
        if not isinstance(given, str):  # a default
            return given if isinstance(given, int) else None
        text = given.strip().lower()
        if text == "none":
            if or_none:
                return None
            raise typer.BadParameter("must be a time such as 600, 90m, 12h or 1d: here a limit is required")
        problem = None
        try:
            seconds = parse_duration(text, "it")
        except ValueError as error:
            problem = str(error)
        else:
            if not seconds.is_integer() or seconds < least:
                problem = f"it must be a whole number of seconds, {least} or more"
            elif most is not None and seconds > most:
                problem = f"it must be {most} seconds or less"
            else:
                return int(seconds)
        raise typer.BadParameter(problem + (", or none" if or_none else ""))

    return parse
