"""The cryptographic core: what is stored, and how it is sealed and opened."""
