"""
The package's own log, `htlogging`.

There are few lines. An outage is one line when it begins and one when it ends; another
outage within a minute is not logged. The first loss is a line at once; later losses are at
most one line a minute, with the count. At DEBUG every request is a line. No line contains
an event's content, a traceback or a secret.
"""
