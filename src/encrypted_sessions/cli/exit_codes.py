"""What the commands end with. 0 is all that went well; wrong use is what typer itself ends with."""

__all__ = ["FAILED", "INTERRUPTED", "UNAVAILABLE", "WRONG_USE"]

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 3
UNAVAILABLE = 4
