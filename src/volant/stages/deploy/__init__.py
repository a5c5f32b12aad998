"""Stage deploy."""
