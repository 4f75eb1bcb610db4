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
from speechft.files.structured import read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failed_directory_leaves_the_old_one_and_no_other(tmp_path):
    path = tmp_path / "model"
    with atomic_directory(path, "prepare") as temporary:
        (temporary / "weights").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_directory(path, "prepare") as temporary:
        (temporary / "weights").write_text("half")
        raise ZeroDivisionError
    assert (path / "weights").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_a_new_directory_replaces_the_whole_old_one(tmp_path):
    path = tmp_path / "model"
    for name in ("first", "second"):
        with atomic_directory(path, "prepare") as temporary:
            (temporary / name).write_text("x")
    assert sorted(os.listdir(path)) == [".speechft.json", "second"]
    assert os.listdir(tmp_path) == ["model"]


def test_full_disk_is_one_clear_error(tmp_path):
    with pytest.raises(SpeechFTError, match=r"a\.json: cannot be written"), atomic_file(tmp_path / "a.json"):
        raise OSError(28, os.strerror(28))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 402560 vs 402448"),
    ],
    ids=["safetensors", "torch"],
)
def test_full_disk_is_recognized_in_the_words_of_libraries(tmp_path, error):
    for writer in (atomic_file, partial(atomic_directory, made_by="prepare")):
        with pytest.raises(SpeechFTError, match=r"out: cannot be written \(No space left on device\)"), writer(tmp_path / "out"):
            raise error
    assert os.listdir(tmp_path) == []


def test_an_unreadable_input_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "out"):
        (tmp_path / "input").read_text()


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


def test_nothing_written_is_no_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == []


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


def test_a_lock_held_by_another_process_refuses_at_once_and_is_freed_by_its_death(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(SpeechFTError, match="another process is training here"), exclusive_lock(lock, "training"):
        pass
    holder.kill()
    holder.communicate()
    with exclusive_lock(lock, "training"):
        pass


def test_a_job_of_the_workflow_waits_for_a_lock_and_knows_that_it_did(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    monkeypatch.setenv(LOCK_SECONDS, "60")
    with exclusive_lock(lock, "training") as waited:
        assert not waited
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    threading.Timer(1.5, holder.kill).start()
    with exclusive_lock(lock, "training") as waited:
        assert waited
    holder.wait()


def test_waiting_for_a_lock_ends(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    monkeypatch.setenv(LOCK_SECONDS, "0.5")
    with pytest.raises(SpeechFTError, match="another process is training here"), exclusive_lock(lock, "training"):
        pass
    monkeypatch.setenv(LOCK_SECONDS, "long")
    with pytest.raises(SpeechFTError, match="SPEECHFT_LOCK_SECONDS=long: is not a number"), exclusive_lock(lock, "training"):
        pass
    holder.kill()
    holder.wait()
