"""One session's history."""
