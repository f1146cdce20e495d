"""Keep secrets of URLs (user:password@, signed queries) out of messages, logs and receipts."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>|]+")
_ENDS_OF_SENTENCES = ".,;:)]}"


def redact(url: str) -> str:
    """The URL without its password and query: fit to be shown."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return re.sub(r"//[^/]*@", "//", url.partition("?")[0])
    if parts.scheme == "data":
        return "data:…"
    netloc = f"…@{host}" if "@" in parts.netloc else host
    return urlunsplit((parts.scheme, netloc, parts.path, "…" if parts.query else "", ""))


def scrub(text: str) -> str:
    """Redact every URL in a text, such as the message of a library's exception."""

    def replace(match: re.Match[str]) -> str:
        url = match.group()
        bare = url.rstrip(_ENDS_OF_SENTENCES)
        return redact(bare) + url[len(bare) :]

    return _URL.sub(replace, text)


def host_of(url: str) -> str:
    """Host (and port where one is given) of a URL."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "the host"
