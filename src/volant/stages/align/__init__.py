"""Stage align."""
