import re

import pytest
from conftest import ROOT

from speechft import plugins

PAGE = (ROOT / "docs/extend.md").read_text()
FILES = {match[2]: match[1] for match in re.finditer(r"```(?:python|yaml|toml)\n(# (\S+)\n.*?)```", PAGE, re.DOTALL)}
"""Name -> text of every file of the page."""
COMMANDS = re.findall(r"```\n(.*?)```", re.sub(r"```(?:python|yaml|toml)\n.*?```", "", PAGE, flags=re.DOTALL), re.DOTALL)
"""Blocks of commands of the page, in order."""


def forget_all():
    """Leave this process as one that has loaded no plug-in."""
    for place in {provider.place for provider in plugins._PROVIDERS.values()} | set(plugins._LOADED):
        plugins.forget(place)


@pytest.fixture(autouse=True)
def _forgotten():
    """No plug-in outlives its test."""
    yield
    forget_all()


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The working folder, with the files of the page."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path
