"""An option that is given twice is wrong use, unless it may be repeated: else the last one would win in silence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .errors import wrong_use
from .failure_report import ReportingCommand

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OnceCommand"]


class OnceCommand(ReportingCommand):
    """A command that refuses what is given twice."""

    def make_parser(self, ctx: Any) -> Any:
        """The parser of its class, which notes each option that comes along."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(args=args)
            if not ctx.resilient_parsing:  # as when a shell completes a line
                _refuse_repetition(order)
            return values, rest, order

        parser.parse_args = parse_once  # type: ignore[method-assign]  # typer's click gives no other place to look
        return parser


def _refuse_repetition(order: Iterable[Any]) -> None:
    for parameter, count in Counter(order).items():
        # One that is eager, such as --help, does its own work and ends the command.
        repeatable = getattr(parameter, "multiple", False) or getattr(parameter, "count", False)
        if count > 1 and parameter.param_type_name == "option" and not (repeatable or parameter.is_eager):
            raise wrong_use(f"it was given {count} times, and is allowed once", parameter.opts[0])
