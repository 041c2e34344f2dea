"""What `make demo` and `make demo-outage` show."""
