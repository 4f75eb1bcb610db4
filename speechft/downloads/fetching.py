"""Download public files: resume interrupted downloads, verify hashes, and record unpublished ones.

Uses only the standard library: a download is a GET with a `Range`, and proxies come from the environment.
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
"""Seconds without data after which a connection is abandoned."""
RETRIES = 4
"""Consecutive attempts without new data, each after a longer pause, before a download is abandoned."""
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
    """Download `url` to `out`, or verify an existing `out` without network.

    Partial data is kept in `OUT.part`; a later call resumes it if the server still has the same version (by ETag or date) and supports
    ranges. If no hash is known, that of the first download is recorded in `OUT.sha256` (sha256sum format) and required from then on.

    Args:
        url: http, https, or file for a local mirror.
        out: output file, which appears only when complete and verified.
        sha256: expected SHA-256, hexadecimal.
        git_sha1: expected git blob hash, hexadecimal.
        bytes: expected size.
        retries: maximum consecutive attempts without new data; 0 gives up at the first interruption.
        own: second half of a sentence in errors: what to do with a file of one's own at `out`.

    Returns:
        `out`.

    Raises:
        DownloadError: no network, a server error, unexpected size or hash, or a full disk.
    """
    out, sha256 = Path(out), sha256.lower() if sha256 else None
    _check_address(url)
    if out.is_dir():
        raise DownloadError(f"{out}: is a directory. Name an output file.")
    if out.is_symlink() and not out.exists():
        raise DownloadError(f"{out}: is a link to {out.readlink()}, which does not exist. Name that file itself.")
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
    logger.info("%s: already exists and was verified; nothing to download", out)
    return out


def recorded_hash(path: str | Path) -> str | None:
    """Read the hash in `PATH.sha256`; None if there is no such file.

    Raises:
        DownloadError: the file does not contain a hash.
    """
    record = _record(Path(path))
    if not record.is_file():
        return None
    words = record.read_text(encoding="utf-8", errors="replace").split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise DownloadError(f"{record}: contains no SHA-256. Delete it if you trust {path}; the hash is then recorded again.")
    return words[0]


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _difference(file: Path, out: Path, sha256: str | None, git_sha1: str | None, bytes: int | None) -> str | None:
    """Describe how `file` differs from the size or hash expected of `out`; None if it matches."""
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
        example = "such as file:///mirror/hubert.pt, with %20 for a space"
        raise DownloadError(f"{url!r}: is not an http, https or file URL. Give one, {example}.")


class _CutError(Exception):
    """The connection was interrupted; another attempt may succeed. `reached`: whether the server was reached at all."""

    def __init__(self, message: str, reached: bool = True) -> None:
        super().__init__(message)
        self.reached = reached


@dataclass
class _Download:
    """One download: URL, expected content, and the files next to `out` that allow it to resume."""

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
        """Bytes received so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def read_state(self) -> dict[str, Any]:
        """Read the URL and version of the remote file that `part` belongs to; empty if `state` is not a record of a download."""
        try:
            state = read_json(self.state)
        except SpeechFTError:
            return {}
        return state if isinstance(state, dict) and {"url", "validator"} <= state.keys() else {}

    def discard(self) -> None:
        """Delete partial data."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def check_own(self) -> None:
        """Raise an error if files with the names of partial data are not from a download."""
        for path in (self.part, self.state):
            if path.is_symlink() or (path.exists() and not self.read_state()):
                why = f"{self.state.name} is not a record of a download, so it is not replaced"
                raise DownloadError(f"{path}: exists, and {why}. Move it away, or choose another --out.")

    def accept(self) -> None:
        """Verify the data and move it to `out`; wrong data is deleted, because resuming it would be useless."""
        if difference := _difference(self.part, self.out, self.sha256, self.git_sha1, self.bytes):
            self.discard()
            remedy = "Fetch again; if this repeats, the publisher replaced the file or something modifies it in transit: do not use it."
            if f"{_record(self.out)} says" in difference:
                remedy = f"It has changed since the first download. If you trust the new one, delete {_record(self.out)} and fetch again."
            raise DownloadError(f"{self.url}: the download has {difference}. {remedy}")
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
        """Fill `part`, resuming after interruptions. Gives up at once if the server is never reached."""
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
                    kept = f" {self.received} bytes are kept in {self.part}; the same command resumes there." if most else ""
                    remedy = f"Check the network and the proxy settings, or copy the file to {self.out} yourself."
                    raise DownloadError(f"{self.url}: {cut}.{kept} {remedy}") from None
                logger.warning("%s: %s; resuming after %d bytes", self.url, cut, self.received)
                time.sleep(2.0**fruitless - 1.0)

    def _attempt(self) -> None:
        """Send one request, starting at the end of `part` if the server can confirm that the version is the same."""
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
            raise _CutError(f"the connection was interrupted ({error or type(error).__name__})") from None
        except ValueError as error:
            raise DownloadError(f"{self.url}: the server sends an invalid response ({error}). Try another URL with --url.") from None

    def _explain_status(self, error: urllib.error.HTTPError, start: int) -> None:
        if error.code == 416:
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return  # `part` was already complete: the last call ended before the check
            self.discard()
            raise _CutError("the server's file is shorter than the partial download")
        if error.code in _TRANSIENT:
            raise _CutError(f"the server responds with {error.code} {error.reason}")
        remedy = "The file has moved or access is denied; find its URL on the project's page"
        raise DownloadError(
            f"{self.url}: the server responds with {error.code} {error.reason}. {remedy}, and give it with --url."
        ) from None

    def _receive(self, response: Any, start: int, state: dict[str, Any]) -> None:
        """Append the body of a response to `part`, or start over if the server sends the whole file."""
        total = _number(response.headers.get("Content-Length"))
        tag = response.headers.get("ETag")
        if not tag or tag.startswith("W/"):  # a weak tag does not guarantee identical bytes
            tag = response.headers.get("Last-Modified")
        if response.status == 206 and start:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            whole = _number(match[2]) if match else None
            known = state.get("bytes")
            if not match or _number(match[1]) != start or (whole and known and whole != known) or tag not in (None, state["validator"]):
                self.discard()
                raise _CutError("the server sent another range or file than requested")
            total = whole or known
        elif response.status in (200, None):  # None: a local file
            start = 0
            self.discard()
            self._check_whole(response.headers, total)
            write_json(self.state, {"url": self.url, "validator": tag, "bytes": total})
        else:
            problem = f"the server does not send the file (status {response.status})"
            raise DownloadError(f"{self.url}: {problem}. Give another URL with --url.")
        if total is not None:
            if self.bytes not in (None, total):
                self.discard()
                raise DownloadError(f"{self.url}: the remote file has {total} bytes, expected {self.bytes}. Check the project's page.")
            if (free := shutil.disk_usage(self.out.parent).free) < total - start:
                if not start:
                    self.discard()
                raise DownloadError(f"{self.out.parent}: has {free} bytes free, but {total - start} are needed. Choose another --out.")
        logger.info("%s: downloading %s bytes from byte %d", self.url, "an unknown number of" if total is None else total - start, start)
        try:
            # `disable=None`: no progress bar in log files.
            bar: dict[str, Any] = dict(total=total, initial=start, desc=self.out.name, unit="B", unit_scale=True, disable=None)  # noqa: C408
            with self.part.open("ab") as file, tqdm.wrapattr(file, "write", **bar) as target:
                shutil.copyfileobj(response, target, CHUNK)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            remedy = "Free some space and run the same command to resume, or choose another --out."
            raise DownloadError(f"{self.part}: cannot be written ({error.strerror}). {remedy}") from None
        expected = self.bytes if total is None else total
        if expected is not None and self.received < expected:
            raise _CutError(f"the connection was interrupted after {self.received} of {expected} bytes")

    def _check_whole(self, headers: Any, total: int | None) -> None:
        """Raise an error if the response may be incomplete or not the file, and neither hash nor size is known."""
        if self.sha256 or self.git_sha1 or self.bytes is not None or _record(self.out).exists():
            return
        problem = None
        if total is None and "chunked" not in headers.get("Transfer-Encoding", ""):
            problem = "does not state the file's length, so an incomplete file would go undetected"
        elif total == 0:
            problem = "sends an empty file"
        elif headers.get("Content-Encoding", "identity") != "identity":
            problem = f"sends the file in another encoding ({headers['Content-Encoding']})"
        elif headers.get_content_type() == "text/html" and self.out.suffix not in (".html", ".htm"):
            problem = "sends a web page, perhaps from a proxy or a login"
        if problem:
            raise DownloadError(f"{self.url}: the server {problem}. Give the --sha256 of the file, or another URL with --url.")


def _number(text: str | None) -> int | None:
    """Parse a size in a header; None if missing or implausible."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None
