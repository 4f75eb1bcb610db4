"""Download of public files: resumes a cut download, checks what comes, and records the hash of what nobody published one for.

Only the standard library: a download is one GET with a `Range`, and proxies are taken from the environment.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechft.errors import DownloadError, SpeechFTError
from speechft.files.atomic import UNWRITABLE, write_text
from speechft.files.hashes import git_blob_sha1, sha256_file
from speechft.files.locks import exclusive_lock
from speechft.files.structured import read_json, write_json

logger = logging.getLogger(__name__)
CHUNK = 1 << 20
TIMEOUT = 60.0
"""Seconds without a byte after which a connection is given up."""
RETRIES = 4
"""Attempts in a row that may bring nothing new, each after a longer pause, before a download is given up."""
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


def fetch(
    url: str,
    out: str | Path,
    *,
    sha256: str | None = None,
    git_sha1: str | None = None,
    bytes: int | None = None,
    retries: int = RETRIES,
    own: str = "",
) -> Path:
    """Download `url` to `out`, or check `out` when it is there already, which needs no network and touches nothing.

    What has come is kept in `OUT.part`, and a later call continues it if the server still has the same version (by ETag or date); a server
    without ranges sends everything again. Without a hash to compare with, that of the first download is recorded in `OUT.sha256` (in the
    format of sha256sum) and demanded ever after.

    Args:
        url: http, https, or file for a mirror on this machine.
        out: the file; it appears when it is complete and checked.
        sha256: expected hash, hexadecimal.
        git_sha1: expected name of the content in git, hexadecimal.
        bytes: expected size.
        retries: attempts in a row that may bring nothing new; 0: the first cut ends the call.
        own: what to do with a file of one's own at `out`, for the error about it.

    Returns:
        `out`.

    Raises:
        DownloadError: no network, an error of the server, another size or hash than expected, or a full disk.
    """
    out, sha256 = Path(out), sha256.lower() if sha256 else None
    _check_address(url)
    if out.is_dir():
        raise DownloadError(f"{out}: is a directory. Name the file that the download becomes.")
    if out.is_symlink() and not out.exists():
        raise DownloadError(f"{out}: is a link to {out.readlink()}, which is not there. Name that file itself.")
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out.with_name(f".{out.name}.lock"), "downloading"):
            if not out.exists():
                download = _Download(url, out, bytes, sha256, git_sha1)
                download.check_own()
                download.transfer(retries)
                download.accept()
                return out
    if difference := _difference(out, out, sha256, git_sha1, bytes):
        raise DownloadError(f"{out}: has {difference}; move it away and fetch again{f', or {own}' if own else ''}.")
    logger.info("%s: is there already and checked; nothing to fetch", out)
    return out


def recorded_hash(path: str | Path) -> str | None:
    """The hash in `PATH.sha256`, None where there is no such file.

    Raises:
        DownloadError: the file holds no hash.
    """
    record = _record(Path(path))
    if not record.is_file():
        return None
    words = record.read_text(encoding="utf-8", errors="replace").split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise DownloadError(f"{record}: holds no SHA-256. Delete it if you trust {path}; it is then recorded again.")
    return words[0]


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _difference(file: Path, out: Path, sha256: str | None, git_sha1: str | None, bytes: int | None) -> str | None:
    """What `file` has in place of the size or hash that is expected of `out`, in words; None where it is as expected."""
    if bytes is not None and (size := file.stat().st_size) != bytes:
        return f"{size} bytes, expected {bytes}"
    if git_sha1 and (found := git_blob_sha1(file)) != git_sha1:
        return f"git's SHA-1 {found}, expected {git_sha1}"
    expected = sha256 or (None if git_sha1 else recorded_hash(out))
    if expected and (found := sha256_file(file)) != expected:
        return f"SHA-256 {found}, {'expected' if sha256 else f'{_record(out)} says'} {expected}"
    return None


def _check_address(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        possible = parts.scheme == "file" or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        possible = False
    if not possible or not url.isascii() or not url.isprintable() or " " in url:
        example = "such as file:///mirror/hubert.pt, with %20 in place of a space"
        raise DownloadError(f"{url!r}: only http, https and file addresses are fetched, {example}.")


class _CutError(Exception):
    """The connection ended early; another attempt may bring the rest. `reached`: there was a connection at all."""

    def __init__(self, message: str, reached: bool = True) -> None:
        super().__init__(message)
        self.reached = reached


@dataclass
class _Download:
    """One download: the address, what is expected, and the files beside `out` that let it continue."""

    url: str
    out: Path
    bytes: int | None
    sha256: str | None
    git_sha1: str | None

    def __post_init__(self) -> None:
        self.part = self.out.with_name(f"{self.out.name}.part")
        self.state = self.out.with_name(f"{self.out.name}.part.json")

    @property
    def received(self) -> int:
        """Bytes that have come so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def read_state(self) -> dict[str, Any]:
        """Which version of which remote file `part` is the beginning of; empty where `state` is no record of a download."""
        try:
            state = read_json(self.state)
        except SpeechFTError:
            return {}
        return state if isinstance(state, dict) and {"url", "validator"} <= state.keys() else {}

    def discard(self) -> None:
        """Forget what has come so far."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def check_own(self) -> None:
        """Refuse files of others under the names that a download uses, which it would replace."""
        for path in (self.part, self.state):
            if path.is_symlink() or (path.exists() and not self.read_state()):
                why = f"{self.state.name} is no record of a download, so it is not replaced"
                raise DownloadError(f"{path}: exists, and {why}. Move it away, or choose another --out.")

    def accept(self) -> None:
        """Check what came and give it its name; what is wrong is discarded, for its continuation would be wrong too."""
        if difference := _difference(self.part, self.out, self.sha256, self.git_sha1, self.bytes):
            self.discard()
            remedy = "Fetch again; if it stays so, the publisher has replaced the file or something on the way changes it: do not use it."
            if f"{_record(self.out)} says" in difference:
                remedy = f"It has changed since the first download. If you trust the new one, delete {_record(self.out)} and fetch again."
            raise DownloadError(f"{self.url}: came with {difference}. {remedy}")
        digest = sha256_file(self.part)
        if not self.sha256 and not self.git_sha1 and not _record(self.out).exists():
            write_text(_record(self.out), f"{digest}  {self.out.name}\n")
            logger.info("%s: no published SHA-256; recorded it in %s", self.out, _record(self.out).name)
        with self.part.open("rb") as written:
            os.fsync(written.fileno())
        self.part.replace(self.out)
        self.discard()
        logger.info("%s: %d bytes, SHA-256 %s", self.out, self.out.stat().st_size, digest)

    def transfer(self, retries: int) -> None:
        """Fill `part`, going on after cuts. Without any network there is nothing to wait for."""
        most, fruitless, reached = self.received, 0, False
        while True:
            try:
                self._attempt()
                return
            except _CutError as cut:
                reached = reached or cut.reached
                fruitless = 0 if self.received > most else fruitless + 1
                most = max(most, self.received)
                if fruitless > retries or retries == 0 or not reached:
                    kept = f" {self.received} bytes are kept in {self.part}; the same command continues there." if most else ""
                    remedy = f"Check the network and the proxy settings, or bring the file to {self.out} yourself."
                    raise DownloadError(f"{self.url}: {cut}.{kept} {remedy}") from None
                logger.warning("%s: %s; going on after %d bytes", self.url, cut, self.received)
                time.sleep(2.0**fruitless - 1.0)

    def _attempt(self) -> None:
        """Send one request, from the end of `part` if the server can say that it continues the same version."""
        state = self.read_state()
        validator = state.get("validator") if state.get("url") == self.url else None
        if not (self.received and isinstance(validator, str) and validator.isascii() and validator.isprintable()):
            validator = None
            self.discard()
        start = self.received
        headers = {"User-Agent": "speechft", "Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": str(validator)}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=TIMEOUT) as response:
                self._receive(response, start, state)
        except urllib.error.HTTPError as error:
            self._explain_status(error, start)
        except urllib.error.URLError as error:
            raise _CutError(f"cannot be reached ({error.reason})", reached=False) from None
        except (http.client.HTTPException, OSError) as error:
            raise _CutError(f"the connection was cut ({error or type(error).__name__})") from None
        except ValueError as error:
            raise DownloadError(f"{self.url}: the server gives no proper answer ({error}). Try another address with --url.") from None

    def _explain_status(self, error: urllib.error.HTTPError, start: int) -> None:
        if error.code == 416:
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return  # `part` was complete already: the last call ended between the last byte and the check
            self.discard()
            raise _CutError("the server has a shorter file than the one that was begun")
        if error.code in _TRANSIENT:
            raise _CutError(f"the server answers {error.code} {error.reason}")
        remedy = "The address has moved or access is refused; look at the project's page for another one"
        raise DownloadError(f"{self.url}: the server answers {error.code} {error.reason}. {remedy}, and give it with --url.") from None

    def _receive(self, response: Any, start: int, state: dict[str, Any]) -> None:
        """Append the body of a response to `part`, or begin anew when the server sends everything."""
        total = _number(response.headers.get("Content-Length"))
        tag = response.headers.get("ETag")
        if not tag or tag.startswith("W/"):  # a weak tag promises the same meaning, not the same bytes
            tag = response.headers.get("Last-Modified")
        if response.status == 206 and start:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            whole = _number(match[2]) if match else None
            known = state.get("bytes")
            if not match or _number(match[1]) != start or (whole and known and whole != known) or tag not in (None, state["validator"]):
                self.discard()
                raise _CutError("the server sent another range, or of another file, than asked for")
            total = whole or known
        elif response.status in (200, None):  # None: a file of this machine
            start = 0
            self.discard()
            self._check_whole(response.headers, total)
            write_json(self.state, {"url": self.url, "validator": tag, "bytes": total})
        else:
            problem = f"the server does not send the file (status {response.status})"
            raise DownloadError(f"{self.url}: {problem}. Give another address with --url.")
        if total is not None:
            if self.bytes not in (None, total):
                self.discard()
                raise DownloadError(f"{self.url}: the remote file has {total} bytes, expected {self.bytes}. Look at the project's page.")
            if (free := shutil.disk_usage(self.out.parent).free) < total - start:
                if not start:
                    self.discard()
                raise DownloadError(f"{self.out.parent}: has {free} bytes free, {total - start} more are needed. Choose another --out.")
        logger.info("%s: fetching %s bytes from byte %d", self.url, "an unknown number of" if total is None else total - start, start)
        try:
            # `disable=None`: no bar in a log file.
            bar: dict[str, Any] = dict(total=total, initial=start, desc=self.out.name, unit="B", unit_scale=True, disable=None)  # noqa: C408
            with self.part.open("ab") as file, tqdm.wrapattr(file, "write", **bar) as target:
                shutil.copyfileobj(response, target, CHUNK)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            remedy = "Free some space or choose another --out; the same command then continues."
            raise DownloadError(f"{self.part}: cannot be written ({error.strerror}). {remedy}") from None
        expected = self.bytes if total is None else total
        if expected is not None and self.received < expected:
            raise _CutError(f"the connection was cut after {self.received} of {expected} bytes")

    def _check_whole(self, headers: Any, total: int | None) -> None:
        """Refuse an answer that cannot be told from the whole file, where neither its hash nor its size is known."""
        if self.sha256 or self.git_sha1 or self.bytes is not None or _record(self.out).exists():
            return
        problem = None
        if total is None and "chunked" not in headers.get("Transfer-Encoding", ""):
            problem = "does not say how long the file is, so a part of it could pass for the whole"
        elif total == 0:
            problem = "sends an empty file"
        elif headers.get("Content-Encoding", "identity") != "identity":
            problem = f"sends another form of the file ({headers['Content-Encoding']})"
        elif headers.get_content_type() == "text/html" and self.out.suffix not in (".html", ".htm"):
            problem = "sends a web page, as a proxy or a login does"
        if problem:
            raise DownloadError(f"{self.url}: the server {problem}. Give the --sha256 of the file, or another address with --url.")


def _number(text: str | None) -> int | None:
    """A size in a header; None where there is none, or what no file has."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None
