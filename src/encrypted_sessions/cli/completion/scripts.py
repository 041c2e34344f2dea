"""The scripts. Each follows the words before the cursor to a command, and offers what that takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from shlex import quote

from .words import Node, Option

__all__ = ["SHELLS", "script"]

# A line of bash is cut at = and :, too.
_BASH = r"""# Completion of encrypted-sessions for bash.
_encrypted_sessions() {
    local IFS=$' \t\n' at="" words="" options="" i=1
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    COMPREPLY=()
    if [[ $cur == "=" ]]; then
        cur=""
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    while ((i < COMP_CWORD)); do
        case "$at ${COMP_WORDS[i]}" in
            @STEPS@
        esac
        ((i++))
    done
    case "$at" in
        @WORDS@
    esac
    case "$at $prev" in
        @VALUES@
    esac
    [[ $cur == -* ]] && words=$options
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _encrypted_sessions encrypted-sessions
"""
_BASH_SKIP = '[[ ${COMP_WORDS[++i]} == "=" ]] && ((++i))'
_BASH_FILES = r"""IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return"""
_BASH_VALUES = 'COMPREPLY=($(compgen -W "{}" -- "$cur")); return'

_ZSH = r"""#compdef encrypted-sessions
_encrypted_sessions() {
    local at="" i=2 cur=${words[CURRENT]} prev=${words[CURRENT-1]}
    local -a next options
    if [[ $cur == --*=* ]]; then
        prev=${cur%%=*}
        compset -P 1 '*='
    fi
    while (( i < CURRENT )); do
        case "$at ${words[i]}" in
            @STEPS@
        esac
        (( ++i ))
    done
    case "$at" in
        @WORDS@
    esac
    case "$at $prev" in
        @VALUES@
    esac
    if [[ $cur == -* ]]; then
        _describe -o option options
    elif (( $#next )); then
        _describe word next
    fi
}
if [[ ${funcstack[1]} == _encrypted_sessions ]]; then
    _encrypted_sessions "$@"
else
    compdef _encrypted_sessions encrypted-sessions
fi
"""
_ZSH_SKIP = "(( ++i ))"
_ZSH_FILES = "_files; return"
_ZSH_VALUES = "compadd -- {}; return"

_FISH = """# Completion of encrypted-sessions for fish.
function __encrypted_sessions_at
    set -l at ''
    set -l skip no
    for word in (commandline -opc)[2..-1]
        if test $skip = yes
            set skip no
            continue
        end
        switch "$at $word"
            @STEPS@
        end
    end
    test "$at" = "$argv"
end
complete -c encrypted-sessions -f
@WORDS@
"""


def script(shell: str, nodes: Sequence[Node]) -> str:
    """What a shell is to read so that it completes the command."""
    return SHELLS[shell](nodes)


def _bash(nodes: Sequence[Node]) -> str:
    words = (
        f"{quote(one.at)}) words={quote(' '.join(one.next))}; options={quote(' '.join(_names(one)))} ;;"
        for one in nodes
    )
    return _filled(_BASH, _steps(nodes, _BASH_SKIP), words, _values(nodes, _BASH_FILES, _BASH_VALUES))


def _zsh(nodes: Sequence[Node]) -> str:
    def described(words: Iterable[tuple[str, str]]) -> str:
        return " ".join(quote(f"{word}:{text}" if text else word) for word, text in words)

    words = (
        f"{quote(one.at)}) next=({described(one.next.items())});"
        f" options=({described((name, option.help) for option in one.options for name in option.names)}) ;;"
        for one in nodes
    )
    return _filled(_ZSH, _steps(nodes, _ZSH_SKIP), words, _values(nodes, _ZSH_FILES, _ZSH_VALUES))


def _fish(nodes: Sequence[Node]) -> str:
    steps = [f"case {quote(f'{at} {word}')}; set at {quote(after)}" for at, word, after in _ways(nodes)]
    steps += [f"case {quote(f'{at} {name}')}; set skip yes" for at, name in _skipped(nodes)]
    words = []
    for node in nodes:
        begin = f"complete -c encrypted-sessions -n {quote(f'__encrypted_sessions_at {node.at}'.rstrip())}"
        words += [f"{begin} -a {quote(word)} -d {quote(text)}" for word, text in node.next.items()]
        words += [
            f"{begin} {_fish_names(option)}{_fish_value(option)} -d {quote(option.help)}" for option in node.options
        ]
    return _filled(_FISH, steps, words, [])


def _fish_names(option: Option) -> str:
    return " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)


def _fish_value(option: Option) -> str:
    if not option.takes:
        return ""
    return " -r -F" if option.is_file else f" -x -a {quote(' '.join(option.values))}" if option.values else " -x"


SHELLS: dict[str, Callable[[Sequence[Node]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


# -- What they share --------------------------------------------------------------------------------


def _filled(template: str, steps: Iterable[str], words: Iterable[str], values: Iterable[str]) -> str:
    for mark, lines in (("@STEPS@", steps), ("@WORDS@", words), ("@VALUES@", values)):
        indent = " " * next((len(line) - len(mark) for line in template.splitlines() if line.endswith(mark)), 0)
        template = template.replace(mark, f"\n{indent}".join(lines))
    return template


def _ways(nodes: Sequence[Node]) -> Iterator[tuple[str, str, str]]:
    """From which command a word leads to which."""
    for node in nodes:
        if node.at:
            before, _, word = node.at.rpartition(" ")
            yield before, word, node.at


def _skipped(nodes: Sequence[Node]) -> Iterator[tuple[str, str]]:
    """Options before a command, whose values are no command."""
    groups = {before for before, _, _ in _ways(nodes)}
    for node in nodes:
        if node.at in groups:
            yield from ((node.at, name) for option in node.options if option.takes for name in option.names)


def _steps(nodes: Sequence[Node], skip: str) -> list[str]:
    lines = [f"{quote(f'{at} {word}')}) at={quote(after)} ;;" for at, word, after in _ways(nodes)]
    return lines + [f"{quote(f'{at} {name}')}) {skip} ;;" for at, name in _skipped(nodes)]


def _values(nodes: Sequence[Node], files: str, values: str) -> list[str]:
    lines = []
    for node in nodes:
        for option in node.options:
            if option.takes:
                pattern = "|".join(quote(f"{node.at} {name}") for name in option.names)
                offered = values.format(" ".join(option.values)) if option.values else "return"
                lines.append(f"{pattern}) {files if option.is_file else offered} ;;")
    return lines


def _names(node: Node) -> list[str]:
    return [name for option in node.options for name in option.names]
