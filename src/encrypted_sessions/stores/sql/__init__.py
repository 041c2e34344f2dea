"""Databases by SQLAlchemy."""
