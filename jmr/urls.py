"""What a URL is, and what of it anybody may see: of those that a job reads, and of that which it writes to.

Here a URL is a text. Whoever opens it needs fsspec.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

__all__ = ["is_url", "local_path", "place_named", "shown"]

#: "s3://", and what stands before it in a chain: "simplecache::".
_SCHEME = re.compile(r"(?:[a-z][a-z0-9+._-]*::)*([a-z][a-z0-9+._-]+)://", re.IGNORECASE)
_LOCAL = re.compile(r"(?:file|local)://(?:localhost(?=/))?", re.IGNORECASE)
#: In a URL: what comes before a host, and what a query must not tell anybody.
_USER = re.compile(r"(?<=://)[^/?#\s'\"]*@(?=[^/])")
_SECRET = re.compile(
    r"(?<=[?&])([^=&\s]*(?:sig|signature|token|secret|passw(?:or)?d|pwd|credential|api-?_?key|access-?_?key(?:id)?)"
    r"|x-(?:amz|goog)-[^=&\s]*|auth[^=&\s]*)=[^&\s#'\")]*",
    re.IGNORECASE,
)


def is_url(text: str) -> bool:
    """Whether it is no plain path.

    Examples
    --------
    >>> is_url("s3://bucket/*.txt"), is_url("zip://a.csv::s3://b/c.zip"), is_url("a/b.txt"), is_url("C:/x")
    (True, True, False, False)
    """
    return _SCHEME.match(text) is not None


def local_path(url: str) -> str | None:
    """The path of a "file://" URL, which needs no fsspec; None for any other."""
    scheme = _LOCAL.match(url)
    if scheme is None or "::" in url:
        return None
    path = url[scheme.end() :]
    plain = unquote(path)  # as `Path.as_uri` quotes; fsspec does not
    return plain if not os.path.lexists(path) and os.path.lexists(plain) else path


def place_named(name: str) -> str:
    """A directory's path, or a URL, without slashes at its end; "~" is one's own, a "file://" URL the path in it.

    Examples
    --------
    >>> list(map(place_named, ["counts/", "s3://bucket/counts/", "memory://", "file:///tmp/counts/"]))
    ['counts', 's3://bucket/counts', 'memory://', '/tmp/counts']
    """
    place = local_path(name) or name
    scheme = _SCHEME.match(place)
    if scheme is None:
        place = os.path.expanduser(place)
    start = 0 if scheme is None else scheme.end()
    return place[:start] + place[start:].rstrip("/") or "/"


def shown(text: str) -> str:
    """A URL, or a text that has some, without passwords and signatures.

    Examples
    --------
    >>> shown("https://ann:pa55@host/a.txt?page=2&X-Amz-Signature=0a1b")
    'https://host/a.txt?page=2&X-Amz-Signature=***'
    """
    return _SECRET.sub(r"\1=***", _USER.sub("", text))
