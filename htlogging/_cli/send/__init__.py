"""`send`: events from a file."""
