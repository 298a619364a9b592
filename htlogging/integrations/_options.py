"""The options of the middlewares, checked when they are given."""

from __future__ import annotations

import inspect
import re

from htlogging.exceptions import InvalidSetting

# They go into headers, or are compared with decoded paths: no character that needs an
# escape.
_PREFIX = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)
_DOMAIN = re.compile(r"\.?\w[\w.-]*", re.ASCII)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypedDict

    class MiddlewareOptions(TypedDict, total=False):
        """The options of every middleware."""

        trusted_proxies: int
        query: bool
        user_id: Callable[[Any], Any] | None
        cookie_service: str | None
        cookie_domain: str | None


class Options:
    """
    How a middleware reads requests.

    Args:
        trusted_proxies: How many proxies of yours every request passes; each must add to
            `X-Forwarded-For`. With 0 the peer's address is the visitor's.
        query: Whether URLs keep their query strings.
        user_id: A function of the request that returns the id of the authenticated user,
            or `None`. Called at the first event, and again until it returns an id.
        cookie_service: The path under which `renew` and `clear` are answered.
        cookie_domain: The domain of the cookies that are set there; by default only this
            host.

    Raises:
        InvalidSetting: A value has the wrong type.
    """

    def __init__(
        self,
        *,
        trusted_proxies: int = 0,
        query: bool = False,
        user_id: Callable[[Any], Any] | None = None,
        cookie_service: str | None = None,
        cookie_domain: str | None = None,
    ) -> None:
        if type(trusted_proxies) is not int or trusted_proxies < 0:
            raise InvalidSetting(
                "trusted_proxies must be the number of proxies before this server, 0 "
                f"or more, not {trusted_proxies!r}"
            )
        if type(query) is not bool:
            raise InvalidSetting(f"query must be True or False, not {query!r}")
        if user_id is not None and not callable(user_id):
            raise InvalidSetting(
                "user_id must be a function that is given the request and returns an "
                f"id, not {type(user_id).__name__}"
            )
        if inspect.iscoroutinefunction(user_id):
            raise InvalidSetting(
                "user_id must be a plain function: events are logged where nothing can "
                "be awaited"
            )
        self.trusted_proxies = trusted_proxies
        self.query = query
        self.user_id = user_id
        self.cookie_service = _prefix(cookie_service)
        self.cookie_domain = _domain(cookie_domain)
        # Lines that were logged already.
        self.reported: set[str] = set()


def _prefix(path: str | None) -> str | None:
    if path is None:
        return None
    prefix = path.rstrip("/") if isinstance(path, str) else ""
    if not _PREFIX.fullmatch(prefix):
        raise InvalidSetting(
            f"cookie_service must be a path such as '/ht', not {path!r}"
        )
    return prefix


def _domain(domain: str | None) -> str | None:
    if domain is None:
        return None
    if not isinstance(domain, str) or not _DOMAIN.fullmatch(domain):
        raise InvalidSetting(
            f"cookie_domain must be a domain such as 'example.com', not {domain!r}"
        )
    return domain
