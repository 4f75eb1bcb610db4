import os
import subprocess
import sys
import threading
from functools import partial

import pytest

from speechft.errors import SpeechFTError
from speechft.files.atomic import atomic_directory, atomic_file
from speechft.files.hashes import sha256_json
from speechft.files.locks import LOCK_SECONDS, exclusive_lock
from speechft.files.structured import read_json


def test_a_failed_write_leaves_the_old_output_and_no_other(tmp_path):
    for content in ("old", "half"):
        with (
            pytest.raises(ZeroDivisionError),
            atomic_file(tmp_path / "a") as file,
            atomic_directory(tmp_path / "model", "prepare") as folder,
        ):
            file.write_text(content)
            (folder / "weights").write_text(content)
            raise ZeroDivisionError
        if content == "old":
            assert os.listdir(tmp_path) == []
            (tmp_path / "a").write_text("old")
            with atomic_directory(tmp_path / "model", "prepare") as folder:
                (folder / "weights").write_text("old")
    assert (tmp_path / "a").read_text() == (tmp_path / "model/weights").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a", "model"]


def test_a_new_directory_replaces_the_whole_old_one(tmp_path):
    path = tmp_path / "model"
    for name in ("first", "second"):
        with atomic_directory(path, "prepare") as temporary:
            (temporary / name).write_text("x")
    assert sorted(os.listdir(path)) == [".speechft.json", "second"]
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, os.strerror(28)),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 402560 vs 402448"),
    ],
    ids=["system", "safetensors", "torch"],
)
def test_full_disk_is_one_clear_error_whatever_words_libraries_have(tmp_path, error):
    for writer in (atomic_file, partial(atomic_directory, made_by="prepare")):
        with pytest.raises(SpeechFTError, match=r"out: cannot be written \(No space left on device\)"), writer(tmp_path / "out"):
            raise error
    assert os.listdir(tmp_path) == []


def test_an_unreadable_input_or_nothing_written_is_no_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "out"):
        (tmp_path / "input").read_text()
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.fixture(params=[0o022, 0o002, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o777


def test_permissions_follow_the_umask_even_if_a_library_makes_private_files(tmp_path, umask):
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("x")
        temporary.chmod(0o600)
    with atomic_directory(tmp_path / "d", "prepare") as temporary:
        (temporary / "sub").mkdir()
        for name in ("a", "sub/b", "program"):
            (temporary / name).write_text("x")
            (temporary / name).chmod(0o700 if name == "program" else 0o600)
    assert mode(tmp_path / "a") == mode(tmp_path / "d/a") == mode(tmp_path / "d/sub/b") == 0o666 & ~umask
    assert mode(tmp_path / "d/program") == (0o666 & ~umask) | 0o700
    assert mode(tmp_path / "d") == 0o777 & ~umask
    assert sorted(os.listdir(tmp_path / "d")) == [".speechft.json", "a", "program", "sub"]


def test_damaged_json_names_the_file_and_the_remedy(tmp_path):
    (tmp_path / "cell.json").write_text('{"a": ')
    with pytest.raises(SpeechFTError, match=r"cell\.json: is not valid JSON.*run the job"):
        read_json(tmp_path / "cell.json")


def test_hash_does_not_depend_on_the_order_of_keys():
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1}) != sha256_json({"a": 2, "b": 1})


HOLD = """
import sys, time
from speechft.files.locks import exclusive_lock
with exclusive_lock(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds: its path, and the process."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    yield tmp_path / "lock", holder
    holder.kill()
    holder.communicate()


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ("0", "another process is training here"),
        ("0.5", "another process is training here"),
        ("long", "SPEECHFT_LOCK_SECONDS=long is not a number"),
    ],
)
def test_a_lock_held_by_another_process_refuses_and_is_freed_by_its_death(held, monkeypatch, seconds, message):
    lock, holder = held
    monkeypatch.setenv(LOCK_SECONDS, seconds)
    with pytest.raises(SpeechFTError, match=message), exclusive_lock(lock, "training"):
        pass
    holder.kill()
    holder.wait()
    with exclusive_lock(lock, "training") as waited:
        assert not waited


def test_a_job_of_the_workflow_waits_for_a_lock_and_knows_that_it_did(held, monkeypatch):
    lock, holder = held
    monkeypatch.setenv(LOCK_SECONDS, "60")
    threading.Timer(1.5, holder.kill).start()
    with exclusive_lock(lock, "training") as waited:
        assert waited
