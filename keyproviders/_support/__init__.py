"""Small things that every room of this package uses."""
