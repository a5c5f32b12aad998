"""Stage improve."""
