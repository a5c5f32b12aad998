"""Stage collect."""
