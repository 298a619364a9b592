"""
A local HTTP server that speaks the wire of the Hightouch Events API.

Events are sent to it as they would be sent to Hightouch, nothing leaves the machine,
and what came in can be looked at::

    with Collector() as collector:
        client = Client("WRITE_KEY", host=collector.url)
        client.track("user123", "Order completed")
        client.flush()
        assert collector.wait_for(1)
        assert collector.events[0]["event"] == "Order completed"
        assert not collector.problems

It can also be told to misbehave as networks and servers do: `script`, `always`, `Reply`.
With `Tokens` it has an OAuth token endpoint as well.

It refuses with a 4xx what the receiver refuses: a request that is not JSON by RFC 8259,
has no `batch` of objects, an event over 32,768 bytes or more than 500 KB, or no write
key. What the receiver takes though it is wrong (an event without an id) is taken here
too, and is a `Problem`. Rate limits, the age of events and what happens to them later
are not modelled.
"""

from __future__ import annotations

from htlogging.collector._collector import Collector
from htlogging.collector._messages import Problem, Reply, Request
from htlogging.collector._token import Tokens

__all__ = ["Collector", "Problem", "Reply", "Request", "Tokens"]
