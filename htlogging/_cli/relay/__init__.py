"""`relay`: from a Redis stream to the receiver."""
