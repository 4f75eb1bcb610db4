"""A page in a real browser: headless Chromium, without the network; what is seen comes back as JSON."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (`make browser-package` installs Debian's)")

# Runs before the page's own script: what goes wrong is kept.
WATCH = """<script>window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message || event.target.src || event.target.href)), true);
console.error = console.warn = (...words) => problems.push(words.join(" "));</script>"""

# Text whose color is too close to the color behind it, by the formula of WCAG 2; links, buttons and notes included.
CONTRAST = """
const parts = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => {
  const [r, g, b] = parts(color).map((value) => { const v = value / 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let part = element; part; part = part.parentElement) {
    const color = getComputedStyle(part).backgroundColor;
    if (parts(color)[3] !== 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const faint = [];
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.getClientRects().length || ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName)) continue;
  const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(`${element.tagName} ${element.textContent.trim().slice(0, 40)}`);
}
"""


def look(page: str, folder: Path, probe: str, *, width: int = 1400, dark: bool = False) -> dict:
    """Show a page in a window of `width` pixels and run `probe`, JavaScript whose `return` is the answer; `problems` has all errors."""
    script = f"<script>parent.postMessage(JSON.stringify((() => {{{probe}}})()), '*')</script>"
    watched = page.replace("<head>", f"<head>{WATCH}", 1).replace("</body>", f"{script}</body>")
    frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{html.escape(watched)}"></iframe>'
    answer = "<script>addEventListener('message', (event) => { document.getElementById('answer').textContent = event.data })</script>"
    # The answer stands before the frame, whose text could hold anything.
    (folder / "frame.html").write_text(f'<!DOCTYPE html><meta charset="utf-8"><pre id="answer"></pre>{answer}{frame}', encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    command += ["--window-size=1500,1000", f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=5000"]
    done = subprocess.run([*command, (folder / "frame.html").as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, flags=re.S)
    assert found, done.stderr
    assert found[1], f"the page gave no answer: {done.stdout[:500]}"
    return json.loads(html.unescape(found[1]))
