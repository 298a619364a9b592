"""The queue in a file (SQLite), which survives the process."""
