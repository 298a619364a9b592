"""`python -m htlogging check`: find out why events do not arrive."""
