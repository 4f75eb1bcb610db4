"""What HTTP allows and servers do: addresses, redirections, and how much of a file an answer brings. Nothing is downloaded here."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from typing import Any, NamedTuple

from speechft.errors import DownloadError

_MOST_DIGITS = 18


def check_address(url: str) -> str:
    """The scheme of an address that can be fetched: http, https or file.

    Raises:
        DownloadError: it is none, or has no possible host or port.
    """
    allowed = "only http, https and file addresses are fetched, such as file:///mirror/hubert.pt."
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DownloadError(f"{url!r}: is no address ({error}); {allowed}") from None
    if parts.scheme not in ("http", "https", "file"):
        raise DownloadError(f"{url}: {allowed}")
    if parts.scheme == "file":
        return parts.scheme
    if not parts.hostname or port == 0:
        raise DownloadError(f"{url}: names no {'port' if parts.hostname else 'host'}; {allowed}")
    if not url.isascii() or not url.isprintable() or " " in url:
        quoted = urllib.parse.quote(url, safe=":/?#[]@!$&'()*+,;=%~")
        raise DownloadError(f"{url!r}: holds characters that no address has. Write it as {quoted}")
    return parts.scheme


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https alone; urllib would take ftp, too."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Called by urllib with the address that a server sends on to."""
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_address(url: str, headers: dict[str, str], timeout: float) -> Any:
    """The answer of a server to a GET; errors are those of urllib.

    Raises:
        DownloadError: the server, a proxy or a redirection breaks the rules of HTTP.
    """
    try:
        opener = urllib.request.build_opener(_OnlyHttp)
        return opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except ValueError as error:
        raise DownloadError(f"{url}: the server or a proxy gives no proper answer ({error}). Try another address with --url.") from None


class Extent(NamedTuple):
    """The part of a file that the body of an answer is: bytes from `start` to before `end`, of `total`. None: the server does not say."""

    start: int
    end: int | None
    total: int | None


def extent(status: int, headers: Any) -> Extent | None:
    """Which part of the file an answer brings; None if its headers contradict themselves or hold anything but numbers."""
    length = headers.get("Content-Length")
    if length is not None and not _is_number(length):
        return None
    size = None if length is None else int(length)
    if status != 206:
        return Extent(0, size, size)
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("Content-Range", "").strip())
    if found is None or not all(text == "*" or _is_number(text) for text in found.groups()):
        return None
    start, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if last < start or (size is not None and size != last + 1 - start) or (total is not None and total <= last):
        return None
    return Extent(start, last + 1, total)


def version(headers: Any) -> str | None:
    """What a server calls this version of a file. A weak tag promises the same meaning, not the same bytes."""
    tag: str | None = headers.get("ETag")
    found: str | None = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    return found


def told(answer: Any) -> str:
    """What an answer says of the size of its file, for a message."""
    said = {name: answer.headers.get(name) for name in ("Content-Length", "Content-Range")}
    return ", ".join([f"status {answer.status}", *(f"{name} {value!r}" for name, value in said.items() if value is not None)])


def _is_number(text: str) -> bool:
    return re.fullmatch(rf"[0-9]{{1,{_MOST_DIGITS}}}", text.strip()) is not None
