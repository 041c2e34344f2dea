"""The words of an application: its commands, their options, and what an option takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Node", "Option", "nodes"]

#: What these arguments stand for, in the help, are files and folders.
_FILES = frozenset({"FILE", "FOLDER", "PATH"})


class Option(NamedTuple):
    """An option. It takes a value, a file or one of `values`, or it takes nothing."""

    names: tuple[str, ...]
    help: str
    takes: bool
    is_file: bool
    values: Sequence[str]


class Node(NamedTuple):
    """A command and what may follow it. `at` is how it is called, without the program's name."""

    at: str
    help: str
    options: Sequence[Option]
    next: Mapping[str, str]
    """The words that may follow, with their help: commands, or what an argument may be."""


def nodes(command: Any, values: Mapping[str, Sequence[str]]) -> list[Node]:
    """A command of click and all within it. `values` are what some options and arguments take, by their names."""
    return list(_nodes("", command, values))


def _nodes(at: str, command: Any, values: Mapping[str, Sequence[str]]) -> Iterator[Node]:
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    words = {name: _first_sentence(one.get_short_help_str(200)) for name, one in inner.items()}
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words |= dict.fromkeys(values.get(parameter.name, ()), "")
    options = [_option(one, values) for one in command.params if one.param_type_name == "option" and not one.hidden]
    options.append(Option(("--help", "-h"), "Show this message and exit.", takes=False, is_file=False, values=()))
    yield Node(at, words.get(at, ""), options, words)
    for name, one in inner.items():
        yield from _nodes(f"{at} {name}".lstrip(), one, values)


def _option(parameter: Any, values: Mapping[str, Sequence[str]]) -> Option:
    return Option(
        tuple(parameter.opts),
        _first_sentence(parameter.help or ""),
        takes=not (parameter.is_flag or parameter.is_eager),
        is_file=parameter.metavar in _FILES,
        values=values.get(parameter.opts[0], ()),
    )


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0].rstrip(".")
