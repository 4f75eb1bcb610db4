"""Download of public files: continues where it was cut, checks what comes, and remembers the hash of what nobody published one for.

Only the standard library: a download is one GET with a `Range`, and proxies are taken from the environment.
"""

from __future__ import annotations

import errno
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from speechft.downloads.http_answers import Extent, check_address, extent, open_address, told, version
from speechft.errors import DownloadError, SpeechFTError, missing_file
from speechft.files.atomic import write_text
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
_ANOTHER_FILE = "It is another file than expected; look at the project's page."
_REPLACED = "Fetch again; if it stays so, the publisher has replaced the file or something on the way changes it: do not use it."


class _CutError(Exception):
    """The connection ended early; another attempt may bring the rest."""


class _UnreachableError(_CutError):
    """There was no connection at all."""


@dataclass
class _Download:
    """One download: the address, and the files beside `out` that let it continue."""

    url: str
    out: Path
    bytes: int | None
    known: bool = False
    """Whether its hash or size is known, so that a part of the file cannot pass for the whole."""

    @property
    def part(self) -> Path:
        """What has come so far."""
        return self.out.with_name(f"{self.out.name}.part")

    @property
    def state(self) -> Path:
        """Which version of which remote file `part` is the beginning of."""
        return self.out.with_name(f"{self.out.name}.part.json")

    @property
    def received(self) -> int:
        """Bytes that have come so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        """Forget what has come so far."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def check_own(self) -> None:
        """Refuse files of others under the names that a download uses, which it would replace.

        Raises:
            DownloadError: there is one.
        """
        if (self.part.exists() or self.part.is_symlink()) and (self.part.is_symlink() or not self._state()):
            raise DownloadError(
                f"{self.part}: exists, and no {self.state.name} of a download goes with it, so it is not replaced. Move it away, or choose "
                "another --out."
            )
        if (self.state.exists() or self.state.is_symlink()) and (self.state.is_symlink() or not self._state()):
            raise DownloadError(f"{self.state}: exists and is not the record of a download. Move it away, or choose another --out.")

    def _state(self) -> dict[str, Any]:
        try:
            state = read_json(self.state)
        except SpeechFTError:
            return {}
        return state if isinstance(state, dict) and {"url", "validator"} <= state.keys() else {}

    def validator(self) -> str | None:
        """What the server called the version that `part` began with; None if there is nothing that can be continued."""
        if not self.part.is_file() or not self.state.is_file():
            return None
        state = self._state()
        validator = state.get("validator") if state.get("url") == self.url else None
        return validator if isinstance(validator, str) and validator.isascii() and validator.isprintable() else None

    def total(self) -> int | None:
        """Size of the whole file, if the server told it when `part` was begun."""
        total = self._state().get("bytes")
        return total if isinstance(total, int) else None


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
    scheme = check_address(url)
    if out.is_dir():
        raise DownloadError(f"{out}: is a directory. Name the file that the download becomes.")
    if out.is_symlink() and not out.exists():
        raise DownloadError(f"{out}: is a link to {out.readlink()}, which is not there. Name that file itself.")
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(out.with_name(f".{out.name}.lock"), "downloading"):
            if not out.exists():
                known = bool(sha256 or git_sha1 or bytes is not None or recorded_hash(out))
                download = _Download(url, out, bytes, known)
                download.check_own()
                if scheme == "file":
                    _take_from_mirror(download)
                else:
                    _transfer(download, retries)
                _accept(download, sha256, git_sha1)
                return out
    check_file(out, sha256, git_sha1=git_sha1, bytes=bytes, own=own)
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


def check_file(
    path: str | Path, sha256: str | None = None, *, git_sha1: str | None = None, bytes: int | None = None, own: str = ""
) -> None:
    """Compare a file with what is expected of it, without a hash with the recorded one; nothing is written.

    Raises:
        DownloadError: it has another size or hash; `own` says in the same sentence what to do with a file of one's own.
    """
    path = Path(path)
    remedy = f"move it away and fetch again{f', or {own}' if own else ''}."
    if bytes is not None and (size := path.stat().st_size) != bytes:
        raise DownloadError(f"{path}: has {size} bytes, expected {bytes}; {remedy}")
    if git_sha1 and (found := git_blob_sha1(path)) != git_sha1:
        raise DownloadError(f"{path}: has git's SHA-1 {found}, expected {git_sha1}; {remedy}")
    expected = sha256 or (None if git_sha1 else recorded_hash(path))
    if expected is not None and (found := sha256_file(path)) != expected:
        raise DownloadError(f"{path}: has SHA-256 {found}, {_whence(path, sha256)} {expected}; {remedy}")


def _accept(download: _Download, sha256: str | None, git_sha1: str | None) -> None:
    """Check what came and give it its name; what is wrong is discarded, for its continuation would be wrong too."""
    if git_sha1 and (name := git_blob_sha1(download.part)) != git_sha1:
        download.discard()
        raise DownloadError(f"{download.url}: came with git's SHA-1 {name}, expected {git_sha1}. {_REPLACED}")
    found = sha256_file(download.part)
    expected = sha256 or (None if git_sha1 else recorded_hash(download.out))
    if expected is not None and found != expected:
        download.discard()
        record = _record(download.out)
        remedy = (
            _REPLACED
            if sha256
            else f"The remote file has changed since the first download. If you trust the new one, delete {record} and fetch again."
        )
        raise DownloadError(f"{download.url}: came with SHA-256 {found}, {_whence(download.out, sha256)} {expected}. {remedy}")
    if expected is None and not git_sha1:
        _write_record(download.out, found)
    with download.part.open("rb") as written:
        os.fsync(written.fileno())
    download.part.replace(download.out)
    download.discard()
    logger.info("%s: %d bytes, SHA-256 %s", download.out, download.out.stat().st_size, found)


def _write_record(path: Path, found: str) -> None:
    write_text(_record(path), f"{found}  {path.name}\n")
    logger.info("%s: no published SHA-256; recorded %s in %s", path, found, _record(path).name)


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _whence(path: Path, sha256: str | None) -> str:
    return "expected" if sha256 else f"{_record(path)} says"


def _check_size(found: int, expected: int | None, where: str, remedy: str) -> None:
    if expected is not None and found != expected:
        raise DownloadError(f"{where}: has {found} bytes, expected {expected}. {remedy}")


def _take_from_mirror(download: _Download) -> None:
    """Fill `download.part` from a file of this machine."""
    source = Path(urllib.request.url2pathname(urllib.parse.urlsplit(download.url).path))
    if not source.is_file():
        raise DownloadError(missing_file(source, f"as the mirror of {download.out.name}", "Correct the address."))
    _check_size(source.stat().st_size, download.bytes, str(source), _ANOTHER_FILE)
    try:
        shutil.copyfile(source, download.part)
    except OSError as error:
        download.discard()
        raise DownloadError(f"{download.part}: cannot be written ({error.strerror}). Check free space and permissions.") from None


def _transfer(download: _Download, retries: int) -> None:
    """Fill `download.part`, going on after cuts. Without any network there is nothing to wait for."""
    most, fruitless, reached = download.received, 0, False
    while True:
        try:
            _attempt(download)
            return
        except _CutError as cut:
            reached = reached or not isinstance(cut, _UnreachableError)
            fruitless = 0 if download.received > most else fruitless + 1
            most = max(most, download.received)
            if fruitless > retries or retries == 0 or not reached:
                kept = f" {download.received} bytes are kept in {download.part}; the same command continues there." if most else ""
                raise DownloadError(
                    f"{download.url}: {cut}.{kept} Check the network and the proxy settings, or bring the file to {download.out} in "
                    "another way."
                ) from None
            logger.warning("%s: %s; going on after %d bytes", download.url, cut, download.received)
            time.sleep(2.0**fruitless - 1.0)


def _attempt(download: _Download) -> None:
    """One request, from the end of `part` if it can be continued."""
    validator = download.validator()
    if validator is None:
        download.discard()
    start = download.received if validator else 0
    headers = {"User-Agent": "speechft", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": str(validator)}
    try:
        with open_address(download.url, headers, TIMEOUT) as response:
            _receive(download, response, start)
    except urllib.error.HTTPError as error:
        _explain_status(download, error, start)
    except urllib.error.URLError as error:
        raise _UnreachableError(f"cannot be reached ({error.reason})") from None
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(f"the connection was cut ({error or type(error).__name__})") from None


def _explain_status(download: _Download, error: urllib.error.HTTPError, start: int) -> None:
    total = re.fullmatch(r"bytes \*/([0-9]{1,18})", error.headers.get("Content-Range", ""))
    if error.code == 416 and total and int(total[1]) == start and download.total() in (None, start):
        return  # `part` was complete already: the last call ended between the last byte and the check
    if error.code == 416:
        download.discard()
        raise _CutError("the server has a shorter file than the one that was begun")
    if error.code in _TRANSIENT:
        raise _CutError(f"the server answers {error.code} {error.reason}")
    if 300 <= error.code < 400:
        raise DownloadError(
            f"{download.url}: the server sends on without an end, or to nowhere ({error.code}). Give the file's own address with --url."
        ) from None
    remedy = "The address has moved; look at the project's page for the new one" if error.code in (404, 410) else "Access is refused"
    raise DownloadError(f"{download.url}: the server answers {error.code} {error.reason}. {remedy}, and give it with --url.") from None


def _receive(download: _Download, response: Any, start: int) -> None:
    """Append the body of a response to `part`, or begin anew when the server sends everything."""
    continued = response.status == 206
    found = extent(response.status, response.headers)
    if response.status not in (200, 206) or (continued and not start) or (found is None and not start):
        raise DownloadError(f"{download.url}: the server does not send the file: {told(response)}. Give another address with --url.")
    tag = version(response.headers)
    if found is None or (continued and not _continues(download, found, start, tag)):
        download.discard()
        raise _CutError(f"the server sent another range, or of another file, than asked for: {told(response)}")
    start = found.start
    total = (found.total or download.total()) if continued else found.total
    _check_extent(download, response.headers, total)
    if total is not None:
        _check_size(total, download.bytes, f"{download.url}: the remote file", _ANOTHER_FILE)
        _check_space(download.out, total - start)
    if not continued:
        download.discard()
        write_json(download.state, {"url": download.url, "validator": tag, "bytes": total})
    logger.info("%s: fetching %s bytes from byte %d", download.url, "an unknown number of" if total is None else total - start, start)
    try:
        with download.part.open("ab") as file:
            received = _copy(response.read, file, start, total, download.out.name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise DownloadError(
                f"{download.part}: cannot be written ({error.strerror}). Free some space or choose another --out; the same command "
                "then continues."
            ) from None
        raise
    expected = download.bytes if total is None else total
    if expected is not None and received < expected:
        raise _CutError(f"the connection was cut after {received} of {expected} bytes")
    if expected is not None and received > expected:
        download.discard()
        _check_size(received, expected, download.url, _ANOTHER_FILE)


def _check_extent(download: _Download, headers: Any, total: int | None) -> None:
    """Refuse what cannot be told from the whole file, where neither its hash nor its size is known."""
    if total == 0 and download.bytes != 0:
        raise DownloadError(f"{download.url}: the remote file is empty. Give another address with --url.")
    if download.known:
        return
    if total is None and "chunked" not in headers.get("Transfer-Encoding", ""):
        raise DownloadError(
            f"{download.url}: the server does not say how long the file is, so a part of it could pass for the whole. Give its --sha256."
        )
    if headers.get("Content-Encoding", "identity") != "identity":
        form = headers["Content-Encoding"]
        raise DownloadError(f"{download.url}: the server sends another form of the file ({form}). Give the --sha256 of the right one.")


def _continues(download: _Download, found: Extent, start: int, tag: str | None) -> bool:
    """Whether an answer begins where `part` ends, and is of the same version of the same file."""
    total = download.total()
    same_size = total is None or found.total is None or total == found.total
    return found.start == start and same_size and tag in (None, download.validator())


def _copy(read: Callable[[int], bytes], file: BinaryIO, start: int, total: int | None, name: str) -> int:
    """Copy until nothing more comes, and return the size of the file then."""
    received = start
    # `disable=None`: no bar in a log file.
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        while chunk := read(CHUNK):
            file.write(chunk)
            received += len(chunk)
            bar.update(len(chunk))
    return received


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise DownloadError(f"{out.parent}: has {free} bytes free, {needed} more are needed. Free some space or choose another --out.")
