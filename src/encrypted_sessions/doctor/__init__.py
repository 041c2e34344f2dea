"""What `encrypted-sessions doctor` finds out, and how it says so."""
