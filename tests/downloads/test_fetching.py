"""Downloads from a server on this machine that cuts, ignores ranges, changes its file, or is not there."""

import errno
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from downloads.conftest import Remote
from typer.testing import CliRunner

from speechft.cli import app
from speechft.downloads import fetching
from speechft.downloads.fetching import fetch, recorded_hash
from speechft.errors import DownloadError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_SHA1 = hashlib.sha1(b"blob 1048576\0" + CONTENT).hexdigest()
OTHER = CONTENT[::-1]


class Publisher(Remote):
    """A server with one file; its attributes are what it has and does."""

    content, etag, ranges, length, status = CONTENT, '"first"', True, True, None

    def __init__(self):
        super().__init__()
        self.cuts = []  # bytes after which each response is cut, in order

    def change(self):
        self.content, self.etag = OTHER, '"second"'

    def answer(self, headers):
        start, total = 0, len(self.content)
        if "Range" in headers and self.ranges and headers.get("If-Range") in (None, self.etag):
            start = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
        status = self.status or (416 if start >= total else 206 if start else 200)
        fields = {}
        if status in (206, 416):
            fields["Content-Range"] = f"bytes {f'{start}-{total - 1}' if status == 206 else '*'}/{total}"
        if self.length or status > 299:
            fields["Content-Length"] = total - start if status < 300 else 0
        if self.etag:
            fields["ETag"] = self.etag
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        body = self.content[start:] if status < 300 else b""
        return f"HTTP/1.1 {status} said\r\nConnection: close\r\n{head}\r\n".encode() + body[: self.cuts.pop(0) if self.cuts else None]


@pytest.fixture
def remote(serve):
    return serve(Publisher())


NOWHERE = "http://127.0.0.1:9/model.pt"


def left(folder):
    """Files that a user sees; the lock file is hidden."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def refused(message, *arguments, **options):
    with pytest.raises(DownloadError, match=message):
        fetch(*arguments, **options)


def test_a_file_comes_whole_and_alone_when_its_hash_is_known(remote, tmp_path):
    out = fetch(remote.url, tmp_path / "new/model.pt", sha256=SHA256.upper(), bytes=len(CONTENT))
    assert out.read_bytes() == CONTENT
    assert left(tmp_path / "new") == ["model.pt"]


@pytest.mark.parametrize("known", [{"sha256": SHA256, "bytes": len(CONTENT)}, {"git_sha1": GIT_SHA1}, {}], ids=["sha256", "git", "nothing"])
def test_a_file_that_is_there_is_checked_without_network_and_untouched(tmp_path, known):
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "model.pt").write_bytes(CONTENT)
    before = [(path.name, path.stat().st_mtime_ns) for path in (folder, folder / "model.pt")]
    folder.chmod(0o555)  # where the tests run as root this forbids nothing, and only the comparison counts
    try:
        assert fetch(NOWHERE, folder / "model.pt", **known) == folder / "model.pt"
    finally:
        folder.chmod(0o755)
    assert os.listdir(folder) == ["model.pt"], "hidden files included"
    assert [(path.name, path.stat().st_mtime_ns) for path in (folder, folder / "model.pt")] == before


def test_another_file_that_is_there_is_refused_and_kept(tmp_path):
    out = tmp_path / "model.pt"
    out.write_bytes(CONTENT)
    refused(r"model\.pt: has SHA-256 \w+, expected 0+; move it away and fetch again\.$", NOWHERE, out, sha256="0" * 64)
    message = r"model\.pt: has 1048576 bytes, expected 7; move it away and fetch again, or keep it\.$"
    refused(message, NOWHERE, out, bytes=7, own="keep it")
    refused(r"model\.pt: has git's SHA-1 [0-9a-f]{40}, expected 1+; move it away", NOWHERE, out, git_sha1="1" * 40)
    (tmp_path / "model.pt.sha256").write_text("md5 perhaps\n")
    refused(r"model\.pt\.sha256: contains no SHA-256", NOWHERE, out)
    assert out.read_bytes() == CONTENT


def test_a_file_is_known_by_its_name_in_git(remote, tmp_path):
    fetch(remote.url, tmp_path / "words.txt", git_sha1=GIT_SHA1)
    remote.change()
    message = f"the download has git's SHA-1 [0-9a-f]{{40}}, expected {GIT_SHA1}.*Fetch again"
    refused(message, remote.url, tmp_path / "others.txt", git_sha1=GIT_SHA1)
    assert left(tmp_path) == ["words.txt"], "what a repository knows needs no record"


@pytest.mark.parametrize(
    ("server", "known", "requests"),
    [
        ({"cuts": [300_000, 0, 0, 200_000, 0, 0, 0]}, {"sha256": SHA256}, [None, *["bytes=300000-"] * 3, *["bytes=500000-"] * 4]),
        ({"length": False}, {"bytes": len(CONTENT)}, [None, "bytes=300000-"]),  # the cut is found by the expected size
        ({"ranges": False}, {"sha256": SHA256}, [None, "bytes=300000-"]),  # begins anew
        # Nothing is continued that the server cannot identify.
        ({"etag": None}, {}, [None, None]),
        ({"etag": 'W/"weak"'}, {}, [None, None]),
    ],
    ids=["ranges", "no length", "no ranges", "no tag", "weak tag"],
)
def test_a_cut_connection_is_taken_up_in_the_same_call(remote, tmp_path, server, known, requests):
    vars(remote).update({"cuts": [300_000], **server})
    assert fetch(remote.url, tmp_path / "model.pt", **known).read_bytes() == CONTENT
    assert remote.requests == requests


def test_a_cut_connection_is_taken_up_by_the_next_call(remote, tmp_path):
    out = tmp_path / "model.pt"
    message = r"interrupted after 300000 of 1048576 bytes\. 300000 bytes are kept in .*model\.pt\.part; the same"
    remote.cuts = [300_000] * 3
    refused(message, remote.url, out, retries=0)
    assert left(tmp_path) == ["model.pt.part", "model.pt.part.json"]
    remote.cuts = []
    assert fetch(remote.url, out).read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=300000-"]
    assert left(tmp_path) == ["model.pt", "model.pt.sha256"]
    # Neither another address nor a file that changed meanwhile is a continuation.
    for name, url, expected in (("a.pt", remote.url.replace("model.pt", "twin.pt"), CONTENT), ("b.pt", remote.url, OTHER)):
        remote.cuts = [300_000]
        refused("interrupted after", remote.url, tmp_path / name, retries=0)
        if expected == OTHER:
            remote.change()
        assert fetch(url, tmp_path / name).read_bytes() == expected
    assert remote.requests[2:] == [None, None, None, "bytes=300000-"]


def test_a_server_that_brings_nothing_is_given_up(remote, tmp_path):
    remote.cuts = [0] * 50
    refused("interrupted after 0 of", remote.url, tmp_path / "model.pt", retries=3)
    assert len(remote.requests) == 4


def test_a_download_that_was_killed_after_its_last_byte_is_finished(remote, tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(fetching._Download, "accept", killed)
        fetch(remote.url, tmp_path / "model.pt")
    assert fetch(remote.url, tmp_path / "model.pt", sha256=SHA256).read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=1048576-"]


@pytest.mark.parametrize(
    ("status", "known", "message", "requests"),
    [
        (None, {"sha256": "0" * 64}, f"the download has SHA-256 {SHA256}, expected 000.*Fetch again", 1),
        (None, {"bytes": len(CONTENT) - 1}, "the remote file has 1048576 bytes, expected 1048575", 1),
        (404, {}, "responds with 404 .*The file has moved or access is denied", 1),
        (503, {}, "responds with 503", 2),
    ],
)
def test_what_comes_wrong_is_refused_and_nothing_is_left(remote, tmp_path, status, known, message, requests):
    remote.status = status
    refused(message, remote.url, tmp_path / "model.pt", retries=1, **known)
    assert left(tmp_path) == []
    assert len(remote.requests) == requests


def test_the_hash_of_the_first_download_is_recorded_and_demanded_ever_after(remote, tmp_path):
    out = fetch(remote.url, tmp_path / "model.pt")
    assert recorded_hash(out) == SHA256
    assert subprocess.run(["sha256sum", "--check", "--quiet", "model.pt.sha256"], cwd=tmp_path).returncode == 0
    out.unlink()
    remote.change()
    message = r"has changed since the first download\. If you trust the new one, delete .*model\.pt\.sha256"
    refused(message, remote.url, out)
    assert left(tmp_path) == ["model.pt.sha256"]
    out.write_bytes(OTHER)
    refused(r"model\.pt\.sha256 says", remote.url, out)
    (tmp_path / "model.pt.sha256").unlink()
    fetch(remote.url, out)
    assert recorded_hash(out) is None, "a file that somebody brought is no download"


def test_no_network_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: pytest.fail("there is nothing to wait for"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = r"cannot be reached .*Check the network and the proxy settings, or copy the file to"
    refused(message, f"http://127.0.0.1:{port}/model.pt", tmp_path / "model.pt")


def test_a_disk_that_is_too_small_is_told_before_the_download(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    refused("has 1 bytes free, but 1048576 are needed", remote.url, tmp_path / "model.pt")
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_came(remote, tmp_path, monkeypatch):
    def fill_up(source, file, _):
        file.write(source.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(fetching.shutil, "copyfileobj", fill_up)
        message = r"model\.pt\.part: cannot be written \(No space left on device\)\. Free some space"
        refused(message, remote.url, tmp_path / "model.pt")
    assert fetch(remote.url, tmp_path / "model.pt").read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=1000-"]


def test_the_command_line(remote, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, ["fetch", *arguments])

    command = [sys.executable, "-m", "speechft.cli", "fetch", "--url", remote.url, "--out", "model.pt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, SHA256 in done.stderr, "%" in done.stderr) == (0, True, False), "no progress bar in a log"
    Path("model.pt").write_bytes(OTHER)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: model.pt: has SHA-256")
    assert run("superb_lexicon_allothers", "--url", remote.url).exit_code == 0
    assert left("lexicons") == ["librispeech-lexicon-allothers-g2p.txt", "librispeech-lexicon-allothers-g2p.txt.sha256"]
    done = run("superb_lexicon_200k", "--url", remote.url)
    assert f"the download has git's SHA-1 {GIT_SHA1}, expected a9143b4f90bde7f71221b7e546f780f3b655c8f7" in str(done.exception)
    assert "hubert_base, wav2vec2_base, wavlm_base_plus, decoar2, hubert_large, " in str(run("nonsense", "--out", "x").exception)
    assert run("--out", "x").exit_code == run("--url", remote.url).exit_code == 2


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        (
            "hubert_base",
            "checkpoints/hubert_base_ls960.pt",
            "4 bytes, expected 1136468879; move it away and fetch again, or use a file of your own as `kind: checkpoint` with its `path`.",
        ),
        ("superb_lexicon_200k", "lexicons/librispeech-lexicon-200k-g2p.txt", "or give a file of your own another name."),
        ("decoar2", "checkpoints/checkpoint_decoar2.pt", None),  # nobody published a hash of it
        ("superb_lexicon_allothers", "lexicons/librispeech-lexicon-allothers-g2p.txt", None),
    ],
)
def test_another_file_under_a_public_name_is_one_sentence(tmp_path, monkeypatch, name, file, expected):
    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir()
    Path(file).write_bytes(b"mine")
    done = CliRunner().invoke(app, ["fetch", name])
    assert os.listdir(Path(file).parent) == [Path(file).name]
    if expected is None:
        assert done.exit_code == 0, done.output
    else:
        assert str(done.exception).startswith(f"{file}: has ")
        assert str(done.exception).endswith(expected)


def test_fetching_needs_neither_torch_nor_requests():
    code = "import sys; import speechft.downloads.fetching, speechft.downloads.checkpoints; print({'torch', 'requests'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_mirror_is_a_file_of_this_machine(tmp_path):
    mirror = tmp_path / "the mirror/file.pt"
    mirror.parent.mkdir()
    mirror.write_bytes(CONTENT)
    out = fetch(mirror.as_uri(), tmp_path / "out/file.pt", sha256=SHA256, bytes=len(CONTENT))
    assert out.read_bytes() == CONTENT
    refused("expected", mirror.as_uri(), tmp_path / "out/other.pt", sha256="0" * 64)
    refused(r"cannot be reached .*No such file", (tmp_path / "no.pt").as_uri(), tmp_path / "out/other.pt")
    assert left(out.parent) == ["file.pt"]
    assert mirror.read_bytes() == CONTENT
