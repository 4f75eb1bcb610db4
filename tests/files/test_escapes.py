"""Hostile text in every format that the project writes, and on the terminal."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from speechft.encoders.directory.model_card import write_model_card
from speechft.errors import ConfigError
from speechft.files.escapes import (
    code_line,
    csv_text,
    is_control,
    json_text,
    latex_escape,
    markdown_code,
    markdown_escape,
    markdown_item,
    one_line,
    terminal_text,
    yaml_text,
)
from speechft.runs.report import Failure, print_failures

HOSTILE = "a\n\n# H\r\n| b |\x1b[31m\x9b31m\x00\x07\u2028\u202e```\n\\input{evil}<script>$(x)&=1"


@pytest.mark.parametrize("escape", [one_line, latex_escape, markdown_escape, markdown_item, markdown_code, code_line, csv_text, yaml_text])
def test_text_stays_on_one_line_without_control_characters(escape):
    assert not any(map(is_control, escape(HOSTILE)))


def test_the_terminal_keeps_lines_and_nothing_else():
    assert terminal_text("a\tb\nc") == "a\tb\nc"
    assert terminal_text("\x1b[2J\r\x9b\u202e\ud800") == "\\x1b[2J\\x0d\\x9b\\u202e\\ud800"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\uff1d1", '=HYPERLINK("http://x")'])
def test_formulas_are_text_and_other_cells_are_as_they_were(text):
    assert csv_text(text).startswith("'")
    assert [csv_text(text) for text in ("a=b", "Speech-FT", "1-2", "hubert_base")] == ["a=b", "Speech-FT", "1-2", "hubert_base"]


@pytest.mark.parametrize("text", ["# H", "- x", "+ x", "1. x", "12) x", "---", "=====", "~~~"])
def test_an_item_begins_no_block(text):
    assert re.match(r"\\|\d+\\", markdown_item(text))


def test_markdown_and_latex():
    assert markdown_escape("a_b *x* _y_ [l](u) <b> & `c` $m$ ~~s~~") == (r"a_b \*x\* \_y\_ \[l\](u) &lt;b&gt; &amp; \`c\` \$m\$ \~\~s\~\~")
    assert markdown_code("a `b`` c`") == "``` a `b`` c` ```"
    assert code_line("```") == "    ```"
    assert latex_escape("[2pt] *x") == "{[}2pt{]} {*}x"  # as at the beginning of a row


@pytest.mark.parametrize("text", [HOSTILE, "no", "null", "1", "a: b", "]", "- x", "hubert", "", "#"])
def test_a_yaml_scalar_is_read_as_the_text(text):
    assert yaml.safe_load(f"tags: [speech, {yaml_text(text)}]") == {"tags": ["speech", one_line(text)]}


def test_json_means_the_same():
    values = {"label": HOSTILE}
    text = json_text(json.dumps(values, ensure_ascii=False, indent=1))
    assert json.loads(text) == values
    assert not any(is_control(character) for character in text if character != "\n")


def test_errors_have_no_control_characters():
    assert str(ConfigError("x\x1b[31m.yaml: bad\n  y\x9b")) == "x\\x1b[31m.yaml: bad\n  y\\x9b"
    assert "\x1b" not in print_failures([Failure("evaluate", "a\x1b]0;x\x07", 1, "m\x1b[2J", None)])


def test_the_command_line_prints_and_logs_no_control_characters(tmp_path):
    path = tmp_path / "evil\x1b[31m.json"
    path.write_text('{"title": "t", "nope\x9b31m": 1}'.replace("\x9b", "\\u009b"))
    done = subprocess.run([sys.executable, "-m", "speechft.cli", "tables", str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "nope\\x9b31m" in done.stderr
    assert not any(is_control(character) for character in done.stdout + done.stderr if character not in "\n\t")
    code = "import logging\nfrom speechft.cli.terminal import log_to_terminal, say\n"
    code += "log_to_terminal(); say('a\\x1bb'); logging.info('%s', '\\x1b')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("a\\x1bb\n", "\\x1b\n")


def test_a_model_card_holds_hostile_names(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x]\nlicense: evil", "num_hidden_layers": HOSTILE, "hidden_size": 3}))
    provenance = {
        "kind": "merge",
        "inputs": {"base\n| r |": {"name": HOSTILE, "sha256": "`0`"}},
        "outputs": {HOSTILE: "0" * 64},
        "recipe": {"note\n# H": HOSTILE},
        "versions": {"torch": "1\n# H"},
    }
    write_model_card(tmp_path, provenance, name=HOSTILE)
    card = (tmp_path / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["tags"] == ["speech", "x] license: evil"]
    assert set(yaml.safe_load(front)) == {"library_name", "pipeline_tag", "tags"}
    text = re.sub("```python.*?```", "", body, flags=re.S)
    assert re.findall("^#+ .*$", text, flags=re.M)[1:] == ["## How it was made", "## How to load it"]
    assert "<script" not in body
    assert not re.search(r"^\\input", body, flags=re.M)
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_a_model_card_shows_python_that_can_be_pasted(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    write_model_card(tmp_path, {"kind": "merge"}, name='x"]); import os #')
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), flags=re.S)
    assert len(blocks) == 3
    for block in blocks:
        compile(block, "card", "exec")
    assert r"x\"]); import os #_fairseq.pt" in blocks[1]
