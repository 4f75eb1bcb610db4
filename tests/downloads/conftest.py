import http.server
import threading

import pytest

from speechft.downloads import fetching


class Remote:
    """A server on this machine. `answers` are sent in order, the last one ever after; `requests` lists the Range of each request."""

    def __init__(self):
        self.answers, self.requests = [], []

    def answer(self, headers):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.close_connection = True
        self.server.remote.requests.append(self.headers.get("Range"))
        self.wfile.write(self.server.remote.answer(self.headers))

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Let a remote answer, and give it its `url`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})

    def start(remote):
        server.remote = remote
        remote.url = f"http://127.0.0.1:{server.server_port}/model.pt"
        thread.start()
        return remote

    yield start
    server.shutdown()
    server.server_close()
    thread.join()
