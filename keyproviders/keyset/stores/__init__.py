"""Where keysets are kept."""
