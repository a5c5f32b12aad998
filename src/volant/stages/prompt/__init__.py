"""Stage prompt."""
