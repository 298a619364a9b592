"""A shop whose views log events."""
