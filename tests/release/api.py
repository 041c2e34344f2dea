"""Write the public API as text: docs/api.txt, a line for each name, with its parameters and defaults.

    .venv/bin/python tests/release/api.py             writes it
    .venv/bin/python tests/release/api.py FOLDER...   prints that of other trees, such as a former release's

Read from the source, so nothing is imported. What is public is what a documented module lists in `__all__`, and of a
class what does not begin with an underscore.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "docs" / "api.txt"
#: The modules that the documentation tells users to import from.
MODULES = (
    "encrypted_sessions",
    "encrypted_sessions.advanced",
    "encrypted_sessions.audit",
    "encrypted_sessions.maintenance",
    "encrypted_sessions.telemetry",
    "encrypted_sessions.testing",
    "keyproviders",
    "keyproviders.aws",
    "keyproviders.keyset",
    "keyproviders.local",
    "keyproviders.testing",
    "keyproviders.vault",
)


def public_api(*folders: Path) -> list[str]:
    """The lines, sorted within each module."""
    lines: list[str] = []
    loader = griffe.GriffeLoader(search_paths=folders)
    for package in ("encrypted_sessions", "keyproviders"):
        loader.load(package)
    loader.resolve_aliases(external=False)
    for module in MODULES:
        try:
            found = loader.modules_collection[module]
        except KeyError:
            continue
        for name in sorted(found.exports or ()):
            lines += [f"{module}: {line}" for line in _lines_of(str(name), found.members.get(str(name)))]
    return lines


def _lines_of(name: str, what: griffe.Object | griffe.Alias | None) -> Iterator[str]:
    if isinstance(what, griffe.Alias):
        what = what.final_target
    if isinstance(what, griffe.Class):
        bases = ", ".join(str(base) for base in what.bases)
        yield f"class {name}({bases})"
        for inner, member in sorted(_members_of(what).items()):
            if inner == "__init__" or not inner.startswith("_"):
                yield from _lines_of(f"{name}.{inner}", member)
    elif isinstance(what, griffe.Function):
        returns = f" -> {what.returns}" if what.returns is not None else ""
        yield f"{name}({', '.join(_parameters(what.parameters))}){returns}"
    elif isinstance(what, griffe.Attribute):
        value = f" = {what.value}" if "NamedTuple" in _bases(what.parent) and what.value is not None else ""
        yield f"{name}{'' if what.annotation is None else f': {what.annotation}'}{value}"
    else:
        yield name  # loaded when it is first used


def _members_of(what: griffe.Class) -> dict[str, griffe.Object | griffe.Alias]:
    # An own method of an own base is public as well; of bases from elsewhere nothing is known here.
    return {**what.inherited_members, **what.members}


def _bases(what: griffe.Object | griffe.Alias | None) -> set[str]:
    return {str(base) for base in what.bases} if isinstance(what, griffe.Class) else set()


def _parameters(parameters: griffe.Parameters) -> Iterator[str]:
    are_by_name = False
    for one in parameters:
        if one.name in {"self", "cls"}:
            continue
        if one.kind is griffe.ParameterKind.keyword_only and not are_by_name:
            are_by_name = True
            yield "*"
        star = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(one.kind, "")
        are_by_name |= bool(star)
        annotation = "" if one.annotation is None else f": {one.annotation}"
        default = "" if one.default is None or star else f" = {one.default}"
        yield f"{star}{one.name}{annotation}{default}"


def main() -> None:
    """Write the file, or print what other trees have."""
    folders = [Path(one) for one in sys.argv[1:]]
    text = "\n".join(public_api(*(folders or [ROOT / "src", ROOT]))) + "\n"
    if folders:
        sys.stdout.write(text)
    else:
        API.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
