"""What the commands end with. 0 is all that went well; wrong use is what typer itself ends with."""

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 3
