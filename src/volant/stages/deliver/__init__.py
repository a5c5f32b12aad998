"""Stage deliver."""
