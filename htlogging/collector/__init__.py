"""
A local HTTP server that speaks the protocol of the Hightouch Events API.

Send events to it as you would to Hightouch. Nothing leaves the machine, and the collector
shows what it received::

    with Collector() as collector:
        client = Client("WRITE_KEY", host=collector.url)
        client.track("user123", "Order completed")
        client.flush()
        assert collector.wait_for(1)
        assert collector.events[0]["event"] == "Order completed"
        assert not collector.problems

It can also fail on demand, as networks and servers do: `script`, `always`, `Reply`.
With `Tokens` it has an OAuth token endpoint as well.

It refuses with a 4xx what the receiver refuses: a request that is not JSON by RFC 8259,
has no `batch` of objects, an event over 32,768 bytes or more than 500 KB, or no write
key. When the receiver accepts something wrong, such as an event without an id, the
collector accepts it too and records a `Problem`. It does not imitate rate limits, a limit
on the age of events, or what happens to events later.
"""

from __future__ import annotations

from htlogging.collector._collector import Collector
from htlogging.collector._messages import Problem, Reply, Request
from htlogging.collector._token import Tokens

__all__ = ["Collector", "Problem", "Reply", "Request", "Tokens"]
