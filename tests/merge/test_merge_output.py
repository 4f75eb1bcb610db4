"""The file that a merge writes: its hash is that of its bytes, its space is reserved at once, and a failure ends everything."""

import errno
import hashlib
import os
import threading

import pytest
import torch
from safetensors.torch import save_file

from speechft.errors import MergeError, SpeechFTError
from speechft.merge import hashing, merge_files, output
from speechft.merge.output import OutputFile


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(hashing, "_BLOCK", 64)
    monkeypatch.setattr(output, "_WINDOW", 100)


@pytest.mark.parametrize("sizes", [[], [1], [64], [63, 1, 1], [1000, 7, 64, 300], [10] * 50])
def test_the_hash_is_that_of_the_bytes_in_the_file(tmp_path, sizes):
    content = torch.randint(256, (sum(sizes),), dtype=torch.uint8).numpy().tobytes()
    with OutputFile(tmp_path / "out", len(content)) as file:
        for index, size in enumerate(sizes):
            start = sum(sizes[:index])
            file.write(memoryview(content)[start : start + size])
        digest = file.sha256
    assert (tmp_path / "out").read_bytes() == content
    assert digest == hashlib.sha256(content).hexdigest()
    assert file.sha256 == digest


def test_a_file_that_another_program_shortens_has_no_hash(tmp_path):
    with OutputFile(tmp_path / "out", 20) as file:
        file.write(memoryview(bytes(20)))
        os.truncate(tmp_path / "out", 10)
        with pytest.raises(MergeError, match=r"out: became shorter while it was written"):
            file.sha256  # noqa: B018 - a property


def models(folder, value=1.0):
    save_file({"weight": torch.ones(100)}, folder / "base")
    save_file({"weight": torch.full((100,), value)}, folder / "tuned")
    return folder / "base", [folder / "tuned"], folder / "merged"


def test_a_full_disk_is_noticed_before_anything_is_read(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr("speechft.merge.stream.TensorReader.piece", lambda *_: pytest.fail("a tensor was read"))
    base, finetuned, merged = models(tmp_path)
    with pytest.raises(SpeechFTError, match=r"merged: cannot be written \(No space left on device\)"):
        merge_files(base, finetuned, merged)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "tuned"]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_reservations_or_advice_will_do(tmp_path, monkeypatch, number):
    def unsupported(*_):
        raise OSError(number, os.strerror(number))

    expected = tmp_path / "expected"
    base, finetuned, merged = models(tmp_path, 2.0)
    merge_files(base, finetuned, expected)
    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    monkeypatch.setattr(os, "posix_fadvise", unsupported)
    merge_files(base, finetuned, merged)
    assert merged.read_bytes() == expected.read_bytes()


def test_a_failed_merge_leaves_no_thread_behind(tmp_path):
    base, finetuned, merged = models(tmp_path, float("nan"))
    before = threading.active_count()
    with pytest.raises(MergeError, match="tensor 'weight' holds NaN or Inf in 100 of 100 values"):
        merge_files(base, finetuned, merged)
    assert threading.active_count() == before
    assert not merged.exists()
