"""From a log record to an event's bytes: pure code, on the caller's thread."""
