"""Servers that break the rules of HTTP, or keep them in unusual ways: the whole file or one clear error, whatever they send."""

import hashlib
import json

import pytest
from downloads.conftest import Remote

from speechft.downloads.fetching import fetch
from speechft.errors import DownloadError

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)
OK = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
PART = "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n"
TAG = 'ETag: "v1"\r\n'
WHOLE = f"{OK}{TAG}Content-Length: {SIZE}\r\n\r\n".encode()


def piece(first, last, total=SIZE, tag=TAG):
    return (
        f"{PART}{tag}Content-Length: {last + 1 - first}\r\nContent-Range: bytes {first}-{last}/{total}\r\n\r\n".encode()
        + CONTENT[first : last + 1]
    )


@pytest.fixture
def server(serve):
    return serve(Remote())


REFUSED = {
    "bytes free, but 99999999999": f"{OK}Content-Length: {'9' * 18}\r\n\r\n",
    "sends an empty file": f"{OK}Content-Length: 0\r\n\r\n",
    "does not state the file's length": f"{OK}{TAG}\r\nabc",
    "the file's length, so": f"{OK}Content-Length: {'9' * 5000}\r\n\r\nabc",
    "sends the file in another encoding (gzip)": f"{OK}Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "sends a web page": f"{OK}Content-Type: text/html; charset=utf-8\r\nContent-Length: 3\r\n\r\nabc",
    "the server does not send the file (status 206": piece(0, 9),
    "the server does not send the file (status 202": "HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabc",
    "the server responds with 302": "HTTP/1.1 302 Found\r\nLocation: /model.pt\r\nContent-Length: 0\r\n\r\n",
    "302 Found - Redirection to url": "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "sends an invalid response (Invalid IPv6 URL)": "HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "the connection was interrupted (garbage": "garbage\r\n\r\n",
    "the connection was interrupted (IncompleteRead": f"{OK}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "the connection was interrupted after 3 of 9 bytes": f"{OK}Content-Length: 9\r\n\r\nabc",
}


@pytest.mark.parametrize("said", REFUSED)
def test_an_answer_that_is_not_the_whole_file_is_refused(server, tmp_path, said):
    answer = REFUSED[said]
    server.answers = [answer if isinstance(answer, bytes) else answer.encode()]
    with pytest.raises(DownloadError) as refused:
        fetch(server.url, tmp_path / "model.pt", retries=1)
    assert said in str(refused.value)
    assert not (tmp_path / "model.pt").exists()
    assert not (tmp_path / "model.pt.sha256").exists()


@pytest.mark.parametrize("url", ["http://[::1", "http://h:port/x", "http:///x", "http://h/ü", "http://h/a b", "ftp://h/x", "a.pt"])
def test_an_address_that_cannot_be_is_refused_before_anything_is_written(url, tmp_path):
    with pytest.raises(DownloadError, match="is not an http, https or file URL"):
        fetch(url, tmp_path / "new" / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_come_in_pieces(server, tmp_path):
    server.answers = [WHOLE + CONTENT[:4000], piece(4000, 6999), piece(7000, 9999), piece(10000, SIZE - 1)]
    assert fetch(server.url, tmp_path / "model.pt", retries=1).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=4000-", "bytes=7000-", "bytes=10000-"]


OTHERS = {
    "another size": piece(4000, 4999, total=5000),
    "another range": piece(3995, SIZE - 1),
    "another version": piece(4000, SIZE - 1, tag='ETag: "v2"\r\n'),
    "no range": f"{PART}Content-Length: 7\r\n\r\n".encode(),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_piece_of_another_file_begins_the_download_anew(server, tmp_path, other):
    server.answers = [WHOLE + CONTENT[:4000], OTHERS[other], WHOLE + CONTENT]
    assert fetch(server.url, tmp_path / "model.pt", retries=2).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_length_is_not_needed_where_the_hash_or_the_chunks_say_it(server, tmp_path):
    server.answers = [f"{OK}\r\n".encode() + CONTENT]
    fetch(server.url, tmp_path / "a.pt", sha256=hashlib.sha256(CONTENT).hexdigest())
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (CONTENT[:5000], CONTENT[5000:], b""))
    server.answers = [f"{OK}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks]
    assert fetch(server.url, tmp_path / "b.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("validator", ["a\r\nX: 1", "ü", 7, None, ["v1"]])
def test_a_damaged_note_of_a_download_begins_it_anew(server, tmp_path, validator):
    (tmp_path / "model.pt.part").write_bytes(b"x")
    (tmp_path / "model.pt.part.json").write_text(json.dumps({"url": server.url, "validator": validator}))
    server.answers = [WHOLE + CONTENT]
    assert fetch(server.url, tmp_path / "model.pt").read_bytes() == CONTENT
    assert server.requests == [None]
