"""What is left when a process ends while it writes."""

import os
import subprocess
import sys

from speechft.files.atomic import atomic_directory
from speechft.files.output_kinds import CELL
from speechft.files.outputs import check_file

KILLED = """
import os, signal, sys
from speechft.files.atomic import atomic_directory, atomic_file
from speechft.files.locks import end_on_sigterm
end_on_sigterm()
with atomic_directory("out", "prepare") as folder, atomic_file("cell.json") as file:
    (folder / "half").write_text("half")
    file.write_text("half")
    os.kill(os.getpid(), signal.{signal})
"""


def killed(folder, signal):
    subprocess.run([sys.executable, "-c", KILLED.replace("{signal}", signal)], cwd=folder, check=False)


def test_sigterm_leaves_nothing(tmp_path):
    killed(tmp_path, "SIGTERM")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_run_and_nothing_else(tmp_path):
    killed(tmp_path, "SIGKILL")
    assert len(list(tmp_path.iterdir())) == 2
    others = [tmp_path / ".out.draft.tmp", tmp_path / ".out.0123456789abcdef.tmp", tmp_path / ".other.tmp"]
    for other in others:
        other.mkdir()
        (other / "thesis.txt").write_text("years")
        os.utime(other, (0, 0))
    with atomic_directory(tmp_path / "out", "prepare") as living:
        (living / "a").write_text("a")
        with atomic_directory(tmp_path / "out", "prepare") as folder:
            (folder / "b").write_text("b")
        assert living.is_dir(), "its process still works"
    check_file(tmp_path / "cell.json", CELL)
    assert {path for path in tmp_path.iterdir() if path.name.startswith(".")} == set(others)
