"""The page that both shops show: the browser SDK, and a button that buys."""

import logging.config
import os

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"htevents": {"()": "htlogging.HtEventsHandler"}},
        "loggers": {
            "htevents": {"handlers": ["htevents"], "level": "INFO", "propagate": False}
        },
    }
)
log = logging.getLogger("htevents")

# The file that npm installs.
SDK = os.environ["BROWSER_SDK"]

PAGE = """<!doctype html>
<title>Shop</title>
<script>
  window.htevents = window.htevents || [];
  for (const name of ["track", "page", "ready", "identify"])
    htevents[name] = (...given) => htevents.push([name, ...given]);
  htevents.invoked = true;
  htevents._writeKey = "KEY";
  htevents._loadOptions = {
    apiHost: "HOST", protocol: "http",
    httpCookieServiceOptions: {
      renewUrl: "/ht/renew", clearUrl: "/ht/clear", flushInterval: 50,
    },
  };
</script>
<script async src="/events.min.js"></script>
<button onclick="fetch('/buy', {method: 'POST'}).then(() => document.title = 'Bought')">
  Buy
</button>
""".replace("HOST", os.environ["HTEVENTS_HOST"].removeprefix("http://"))
