"""Where events wait: in memory or in a file."""
