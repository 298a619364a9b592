"""A log record in, an event's bytes out; pure, on the caller's thread."""
