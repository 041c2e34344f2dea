"""What a shell completes: scripts that know every word, so that no key press waits for Python."""
