"""How an application has placed its loggers and handlers, and what is odd about it."""
