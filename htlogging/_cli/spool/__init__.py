"""`spool`: what is in a spool's file."""
