"""Downloads from a server on this machine that cuts, ignores ranges, changes its file, or is not there."""

import errno
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import namedtuple

import pytest

from speechft.downloads import fetching
from speechft.downloads.fetching import fetch, recorded_hash
from speechft.errors import DownloadError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_SHA1 = hashlib.sha1(b"blob 1048576\0" + CONTENT).hexdigest()
OTHER = CONTENT[::-1]


class Remote:
    """What the server has and does; `requests` lists the Range of each request."""

    def __init__(self, url):
        self.url = url
        self.content = CONTENT
        self.etag = '"first"'
        self.ranges = True
        self.cuts = []  # bytes after which each response is cut, in order
        self.status = None
        self.length = True
        self.requests = []

    def change(self):
        self.content, self.etag = OTHER, '"second"'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        remote = self.server.remote
        wanted = self.headers.get("Range")
        remote.requests.append(wanted)
        self.close_connection = True
        if remote.status:
            self.send_response(remote.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if wanted and remote.ranges and self.headers.get("If-Range") in (None, remote.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        total = len(remote.content)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if remote.length:
            self.send_header("Content-Length", str(total - start))
        if remote.etag:
            self.send_header("ETag", remote.etag)
        self.end_headers()
        body = remote.content[start:]
        self.wfile.write(body[: remote.cuts.pop(0)] if remote.cuts else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def remote(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.remote = Remote(f"http://127.0.0.1:{server.server_port}/model.pt")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.remote
    server.shutdown()
    server.server_close()
    thread.join()


def left(folder):
    """Files that a user sees; the lock file is hidden."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_a_file_comes_whole_and_alone_when_its_hash_is_known(remote, tmp_path):
    out = fetch(remote.url, tmp_path / "new/model.pt", sha256=SHA256.upper(), bytes=len(CONTENT))
    assert out.read_bytes() == CONTENT
    assert left(tmp_path / "new") == ["model.pt"]


def test_a_file_that_is_there_is_checked_without_network(tmp_path):
    (tmp_path / "model.pt").write_bytes(CONTENT)
    nowhere = "http://127.0.0.1:9/model.pt"
    fetch(nowhere, tmp_path / "model.pt", sha256=SHA256, bytes=len(CONTENT))
    with pytest.raises(DownloadError, match=r"model\.pt: has SHA-256 \w+, expected 0+; move it away and fetch again\.$"):
        fetch(nowhere, tmp_path / "model.pt", sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"model\.pt: has 1048576 bytes, expected 7; move it away and fetch again, or keep it\.$"):
        fetch(nowhere, tmp_path / "model.pt", bytes=7, own="keep it")
    assert (tmp_path / "model.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"git_sha1": GIT_SHA1}, {}], ids=["sha256", "git", "nothing"])
def test_a_check_touches_nothing(tmp_path, known):
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "model.pt").write_bytes(CONTENT)
    before = [(path.name, path.stat().st_mtime_ns) for path in (folder, folder / "model.pt")]
    folder.chmod(0o555)  # where the tests run as root this forbids nothing, and only the comparison counts
    try:
        assert fetch("http://127.0.0.1:9/model.pt", folder / "model.pt", **known) == folder / "model.pt"
    finally:
        folder.chmod(0o755)
    assert os.listdir(folder) == ["model.pt"], "hidden files included"
    assert [(path.name, path.stat().st_mtime_ns) for path in (folder, folder / "model.pt")] == before


def test_a_file_is_known_by_its_name_in_git(remote, tmp_path):
    out = fetch(remote.url, tmp_path / "words.txt", git_sha1=GIT_SHA1)
    assert left(tmp_path) == ["words.txt"], "what a repository knows needs no record"
    remote.change()
    with pytest.raises(DownloadError, match=f"came with git's SHA-1 [0-9a-f]{{40}}, expected {GIT_SHA1}.*Fetch again"):
        fetch(remote.url, tmp_path / "others.txt", git_sha1=GIT_SHA1)
    assert left(tmp_path) == ["words.txt"]
    out.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=rf"words\.txt: has git's SHA-1 [0-9a-f]{{40}}, expected {GIT_SHA1}; move it away"):
        fetch(remote.url, out, git_sha1=GIT_SHA1)


def test_a_cut_connection_is_taken_up_in_the_same_call(remote, tmp_path):
    remote.cuts = [300_000, 0, 0, 200_000, 0, 0, 0]
    assert fetch(remote.url, tmp_path / "model.pt", sha256=SHA256).read_bytes() == CONTENT
    assert remote.requests == [None, *["bytes=300000-"] * 3, *["bytes=500000-"] * 4]


def test_a_cut_connection_is_taken_up_by_the_next_call(remote, tmp_path):
    remote.cuts = [300_000]
    with pytest.raises(DownloadError, match=r"cut after 300000 of 1048576 bytes\. 300000 bytes are kept in .*model\.pt\.part; the same"):
        fetch(remote.url, tmp_path / "model.pt", retries=0)
    assert not (tmp_path / "model.pt").exists()
    assert fetch(remote.url, tmp_path / "model.pt").read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=300000-"]
    assert left(tmp_path) == ["model.pt", "model.pt.sha256"]


def test_a_server_that_brings_nothing_is_given_up(remote, tmp_path):
    remote.cuts = [0] * 50
    with pytest.raises(DownloadError, match="cut after 0 of"):
        fetch(remote.url, tmp_path / "model.pt", retries=3)
    assert len(remote.requests) == 4


def test_a_cut_without_announced_length_is_found_by_the_expected_size(remote, tmp_path):
    remote.length, remote.cuts = False, [300_000]
    assert fetch(remote.url, tmp_path / "model.pt", bytes=len(CONTENT)).read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=300000-"]


def test_a_download_that_was_killed_after_its_last_byte_is_finished(remote, tmp_path, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(fetching._Download, "accept", killed)
        fetch(remote.url, tmp_path / "model.pt")
    assert fetch(remote.url, tmp_path / "model.pt", sha256=SHA256).read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=1048576-"]


def test_a_server_that_ignores_ranges_begins_anew(remote, tmp_path):
    remote.ranges, remote.cuts = False, [300_000]
    assert fetch(remote.url, tmp_path / "model.pt", sha256=SHA256).read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=300000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_nothing_is_continued_that_the_server_can_not_identify(remote, tmp_path, etag):
    remote.etag, remote.cuts = etag, [300_000]
    assert fetch(remote.url, tmp_path / "model.pt").read_bytes() == CONTENT
    assert remote.requests == [None, None]


def test_a_remote_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(remote, tmp_path):
    remote.cuts = [300_000]
    with pytest.raises(DownloadError):
        fetch(remote.url, tmp_path / "model.pt", retries=0)
    remote.change()
    assert fetch(remote.url, tmp_path / "model.pt").read_bytes() == OTHER


def test_another_address_is_not_a_continuation(remote, tmp_path):
    remote.cuts = [300_000]
    with pytest.raises(DownloadError):
        fetch(remote.url, tmp_path / "model.pt", retries=0)
    fetch(remote.url.replace("model.pt", "twin.pt"), tmp_path / "model.pt", sha256=SHA256)
    assert remote.requests == [None, None]


def test_a_wrong_hash_is_refused_and_nothing_is_left(remote, tmp_path):
    with pytest.raises(DownloadError, match=f"came with SHA-256 {SHA256}, expected 000.*Fetch again"):
        fetch(remote.url, tmp_path / "model.pt", sha256="0" * 64)
    assert left(tmp_path) == []


def test_a_wrong_size_is_refused_before_the_download(remote, tmp_path):
    with pytest.raises(DownloadError, match="the remote file has 1048576 bytes, expected 1048575"):
        fetch(remote.url, tmp_path / "model.pt", bytes=len(CONTENT) - 1)
    assert left(tmp_path) == []


def test_the_hash_of_the_first_download_is_recorded_and_demanded_ever_after(remote, tmp_path):
    out = fetch(remote.url, tmp_path / "model.pt")
    assert recorded_hash(out) == SHA256
    assert subprocess.run(["sha256sum", "--check", "--quiet", "model.pt.sha256"], cwd=tmp_path).returncode == 0
    out.unlink()
    remote.change()
    with pytest.raises(DownloadError, match=r"has changed since the first download\. If you trust the new one, delete .*model\.pt\.sha256"):
        fetch(remote.url, out)
    assert left(tmp_path) == ["model.pt.sha256"]
    out.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"model\.pt\.sha256 says"):
        fetch(remote.url, out)
    (tmp_path / "model.pt.sha256").unlink()
    fetch(remote.url, out)
    assert recorded_hash(out) is None, "a file that somebody brought is no download"


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "model.pt").write_bytes(CONTENT)
    (tmp_path / "model.pt.sha256").write_text("md5 perhaps\n")
    with pytest.raises(DownloadError, match=r"model\.pt\.sha256: holds no SHA-256"):
        fetch("http://127.0.0.1:9/model.pt", tmp_path / "model.pt")


@pytest.mark.parametrize(("status", "expected"), [(404, "answers 404 .*The address has moved or access is refused"), (503, "answers 503")])
def test_answers_of_the_server_are_explained(remote, tmp_path, status, expected):
    remote.status = status
    with pytest.raises(DownloadError, match=expected):
        fetch(remote.url, tmp_path / "model.pt", retries=1)
    assert len(remote.requests) == (2 if status == 503 else 1)


def test_no_network_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: pytest.fail("there is nothing to wait for"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=r"cannot be reached .*Check the network and the proxy settings, or bring the file to"):
        fetch(f"http://127.0.0.1:{port}/model.pt", tmp_path / "model.pt")


def test_a_disk_that_is_too_small_is_told_before_the_download(remote, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(DownloadError, match="has 1 bytes free, 1048576 more are needed"):
        fetch(remote.url, tmp_path / "model.pt")
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_came(remote, tmp_path, monkeypatch):
    def fill_up(source, file, _):
        file.write(source.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    message = r"model\.pt\.part: cannot be written \(No space left on device\)\. Free some space"
    with monkeypatch.context() as patched, pytest.raises(DownloadError, match=message):
        patched.setattr(fetching.shutil, "copyfileobj", fill_up)
        fetch(remote.url, tmp_path / "model.pt")
    assert fetch(remote.url, tmp_path / "model.pt").read_bytes() == CONTENT
    assert remote.requests == [None, "bytes=1000-"]


def test_the_command_line(remote, tmp_path):
    command = [sys.executable, "-m", "speechft.cli", "fetch"]

    def run(*arguments):
        return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=tmp_path)

    done = run("--url", remote.url, "--out", "model.pt")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert SHA256 in done.stderr
    assert "%" not in done.stderr, "no progress bar in a log"
    (tmp_path / "model.pt").write_bytes(OTHER)
    done = run("--url", remote.url, "--out", "model.pt")
    assert done.returncode == 1
    assert done.stderr.startswith("error: model.pt: has SHA-256")
    done = run("superb_lexicon_allothers", "--url", remote.url)
    assert done.returncode == 0, done.stderr
    assert left(tmp_path / "lexicons") == ["librispeech-lexicon-allothers-g2p.txt", "librispeech-lexicon-allothers-g2p.txt.sha256"]
    done = run("superb_lexicon_200k", "--url", remote.url)
    assert f"came with git's SHA-1 {GIT_SHA1}, expected a9143b4f90bde7f71221b7e546f780f3b655c8f7" in done.stderr
    done = run("nonsense", "--out", "x")
    assert (done.returncode, "hubert_base, wav2vec2_base, wavlm_base_plus, decoar2, superb_lexicon_200k" in done.stderr) == (1, True)
    assert run("--out", "x").returncode == run("--url", remote.url).returncode == 2


@pytest.mark.parametrize(
    ("name", "file", "size", "expected"),
    [
        ("hubert_base", "checkpoints/hubert_base_ls960.pt", 1136468879, "use a file of your own as `kind: checkpoint` with its `path`"),
        ("decoar2", "checkpoints/checkpoint_decoar2.pt", None, None),
        ("superb_lexicon_200k", "lexicons/librispeech-lexicon-200k-g2p.txt", None, "give a file of your own another name"),
        ("superb_lexicon_allothers", "lexicons/librispeech-lexicon-allothers-g2p.txt", None, None),
    ],
)
def test_another_file_under_a_public_name_is_one_sentence(tmp_path, name, file, size, expected):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(b"mine")
    done = subprocess.run([sys.executable, "-m", "speechft.cli", "fetch", name], capture_output=True, text=True, cwd=tmp_path)
    assert os.listdir((tmp_path / file).parent) == [(tmp_path / file).name]
    if expected is None:  # nobody published a hash of it
        assert done.returncode == 0, done.stderr
        return
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {file}: has ")
    assert line.endswith(f"; move it away and fetch again, or {expected}.")
    assert size is None or f"has 4 bytes, expected {size};" in line


def test_fetching_needs_neither_torch_nor_requests():
    code = "import sys; import speechft.downloads.fetching, speechft.downloads.checkpoints; print({'torch', 'requests'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_mirror_is_a_file_of_this_machine(tmp_path):
    (tmp_path / "the mirror").mkdir()
    mirror = tmp_path / "the mirror/file.pt"
    mirror.write_bytes(CONTENT)
    out = fetch(mirror.as_uri(), tmp_path / "out/file.pt", sha256=SHA256, bytes=len(CONTENT))
    assert out.read_bytes() == CONTENT
    assert [path.name for path in out.parent.iterdir() if not path.name.startswith(".")] == ["file.pt"]
    with pytest.raises(DownloadError, match="expected"):
        fetch(mirror.as_uri(), tmp_path / "out/other.pt", sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"cannot be reached .*No such file"):
        fetch((tmp_path / "no.pt").as_uri(), tmp_path / "out/other.pt")
    assert not (tmp_path / "out/other.pt").exists()
    assert mirror.read_bytes() == CONTENT
