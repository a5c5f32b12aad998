"""Stage compress."""
