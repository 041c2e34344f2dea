"""`python -m encrypted_sessions.cli`, the same as `encrypted-sessions`."""

from encrypted_sessions.cli import main

main()
