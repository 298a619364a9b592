"""The commands: `python -m htlogging COMMAND`."""
