"""The documentation: every command is one that the program has, and the site is complete in itself."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread

import pytest
from browser import CHROMIUM, CONTRAST, WATCH, needs_browser
from conftest import ROOT
from typer import Exit
from typer.main import get_command

from speechft.cli import app

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "mini/README.md"]
# What stands for something else: `...`, brackets of a synopsis, prompts of other programs.
_SYNOPSIS = re.compile(r"\.\.\.|…|\[|\|")


def commands(text):
    """Every `speechft` command of a page, in blocks and in lines, as it is typed."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(speechft [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for line in lines:
        line = re.sub(r"^(\$ |.*/bin/|srun [^;]*? )", "", line.strip())
        if line.startswith("speechft ") and not _SYNOPSIS.search(line):
            words = shlex.split(line, comments=True)[1:]
            yield words[: words.index("&&")] if "&&" in words else words


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_is_one_that_the_program_has(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    root = get_command(app)
    for words in commands(page.read_text(encoding="utf-8")):
        verb, arguments = root, words
        while hasattr(verb, "commands") and arguments and not arguments[0].startswith("-"):
            context = verb.make_context("speechft", [], resilient_parsing=True)
            _, verb, arguments = verb.resolve_command(context, arguments)
        if verb is root or not arguments:  # `speechft --help`; a verb that is named, not typed
            continue
        with pytest.MonkeyPatch.context() as patch:
            # A sentence about one option leaves the others out.
            for parameter in verb.params:
                patch.setattr(parameter, "required", False)
            with contextlib.suppress(Exit):  # --help
                verb.make_context(words[0], list(arguments))


@pytest.mark.parametrize(("page", "known"), [("README.md", "| Stable-FT "), ("docs/mini-superb.md", "| 0.50  |")])
def test_numbers_of_pages_are_those_of_the_committed_cells(page, known, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "docs/site")
    import numbers_of_cells

    text = (ROOT / page).read_text(encoding="utf-8")
    assert known in text
    assert numbers_of_cells.fill(text) == text


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (pip install 'speechft[docs]')")
    out = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_pages_link_to_what_is_there_and_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"([^\"]+)\"|<link[^>]*rel=\"(?:stylesheet|icon)\"[^>]*href=\"([^\"]+)\"", text
        )
        assert not [address for pair in loaded for address in pair if address.startswith(("http", "//"))], page
        if page.name == "404.html":
            continue
        for link in re.findall(r"<a [^>]*href=\"([^\"#:]+)(?:#[^\"]*)?\"", text):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_reference_has_every_verb_every_key_and_the_public_functions(site):
    text = (site / "reference/cli.html").read_text(encoding="utf-8")
    for name, verb in get_command(app).commands.items():
        assert verb.hidden or f">speechft {name}<" in text or f"speechft {name}" in text
    keys = (site / "reference/configuration.html").read_text(encoding="utf-8")
    assert "<code>encoders</code>" in keys
    assert "<code>learning_rates</code>" in keys
    python = (site / "reference/python.html").read_text(encoding="utf-8")
    assert "speechft.merge.merge" in python
    assert "streamed" in python or "alpha" in python


class _Server(ThreadingHTTPServer):
    """Serves a folder; what a page posts is in `answers`."""

    def __init__(self, folder):
        self.answers = Queue()
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.server.answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()


def visit(site, folder, page, script, width=1400, dark=False):
    """Show a page in a frame of `width` pixels; `script` runs in it and gives its answer to the function `answer`."""
    whole = f"const answer = (value) => fetch('/answer', {{method: 'POST', body: JSON.stringify(value)}}); {script}"
    text = (site / page).read_text(encoding="utf-8").replace("<head>", f"<head>{WATCH}", 1)
    (site / "probe.html").write_text(text.replace("</body>", f"<script>{whole}</script></body>"), encoding="utf-8")
    (site / "frame.html").write_text(f'<!DOCTYPE html><iframe width="{width}" height="900" style="border:0" src="probe.html"></iframe>')
    with _Server(site) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--remote-debugging-port=0"]
        command += ["--window-size=1500,1000", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
        address = f"http://127.0.0.1:{server.server_port}/frame.html"
        browser = subprocess.Popen([*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return server.answers.get(timeout=60)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            server.shutdown()


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(390, False), (1400, True)], ids=["phone", "dark"])
def test_pages_can_be_read_on_every_screen(site, tmp_path, width, dark):
    of_page = CONTRAST.replace("document.body", "document.querySelector('.md-content')")  # the frame around it is the theme's
    script = f"""setTimeout(() => {{ {of_page}
      answer({{problems, faint, whole: document.documentElement.scrollWidth, inner: innerWidth,
               dark: document.body.dataset.mdColorScheme}}); }}, 1000);"""
    seen = visit(site, tmp_path, "index.html", script, width=width, dark=dark)
    assert seen["problems"] == []
    assert seen["whole"] <= seen["inner"] == width
    assert seen["dark"] == ("slate" if dark else "default")
    assert [text for text in seen["faint"] if not text.endswith("¶")] == []  # anchors of headings, which the mouse shows


@needs_browser
def test_search_finds_a_page(site, tmp_path):
    script = """const look = setInterval(() => {
      const field = document.querySelector("[data-md-component=search-query]"), found = document.querySelector(".md-search-result__link");
      if (found) { clearInterval(look); answer(found.getAttribute("href")); }
      field.focus(); field.value = "interpolate"; field.dispatchEvent(new Event("keyup")); field.dispatchEvent(new Event("input"));
    }, 500);"""
    assert re.search(r"(merge|method)\.html", visit(site, tmp_path, "index.html", script))
