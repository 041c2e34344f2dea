"""`python -m encrypted_sessions.cli`, the same as `encrypted-sessions`."""

from . import main

main()
