"""`encrypted-sessions completion`."""

from typing import Annotated

import typer

from ..._support.similar import did_you_mean
from ..errors import wrong_use

__all__ = ["HELP", "completion"]

HELP = """Print a script with which a shell completes commands, options and file names.

The script contains every word, so pressing a key starts nothing. Print it again after an upgrade, or
let each shell print it when it starts:

\b
  eval "$(encrypted-sessions completion bash)"  # ~/.bashrc
  eval "$(encrypted-sessions completion zsh)"   # ~/.zshrc, after compinit
  encrypted-sessions completion fish | source   # config.fish

Exit codes: 0 done, 1 failed, 2 wrong use, 3 interrupted (Ctrl-C)."""


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", show_default=False, help="Which shell.")],
) -> None:
    """Print the script."""
    from ...maintenance.arguments import DISCARDABLE  # noqa: PLC0415 - loads all of maintenance, which `--help` needs not
    from ..completion.scripts import SHELLS, script  # noqa: PLC0415 - no other command needs them
    from ..completion.words import nodes  # noqa: PLC0415 - likewise
    from ..log_level import LEVELS  # noqa: PLC0415 - as above

    if shell not in SHELLS:
        raise wrong_use(f"the supported shells are {', '.join(SHELLS)}.{did_you_mean(shell, SHELLS)}", "bash|zsh|fish")
    values = {"--log-level": LEVELS, "--outcome": DISCARDABLE, "shell": tuple(SHELLS)}
    typer.echo(script(shell, nodes(context.find_root().command, values)), nl=False)
