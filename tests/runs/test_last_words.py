"""The sentence of a log that says why a job failed."""

import pytest

from speechft.runs.last_words import last_line, last_words, log_text

TORCHRUN = """GPUs: 0,1
error: labels.csv, row 17: label "hapy" is not in train.
W1129 17:54:32.0 site-packages/torch/distributed/elastic/multiprocessing/api.py:900] Sending process 12 closing signal SIGTERM
Traceback (most recent call last):
  File "run.py", line 901, in <module>
    main()
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
speechft.cli FAILED
"""
MEMORY = """GPUs: 0
step 5, best dev PR by learning rate  0.01: 143.50
Traceback (most recent call last):
  File "probes.py", line 10, in forward
    x = layer(x)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""


def test_our_own_message_is_found_before_torchruns_report():
    assert last_words(TORCHRUN) == 'labels.csv, row 17: label "hapy" is not in train.'


def test_the_exception_under_a_traceback():
    assert last_words(MEMORY) == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    ranks = MEMORY.replace("torch.Out", "[rank1]: torch.Out") + TORCHRUN.split("\n", 2)[2]
    assert last_words(ranks) == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert last_words("KeyError: is a word of this log\n") is None


def test_listed_problems_follow_the_message_up_to_a_limit():
    text = "error: a.csv: 9 problems.\n" + "".join(f"  row {row}: no such file\n" for row in range(9))
    assert last_words(text).splitlines() == [
        "a.csv: 9 problems.",
        *(f"  row {row}: no such file" for row in range(3)),
        "  and 6 more lines",
    ]


@pytest.mark.parametrize(
    "bar",
    ["features:  40%|####      | 4/10 [00:01<00:02,  3.1it/s]\rfeatures:  50%|#####     | 5/10 [00:01<00:02,  3.1it/s]\r", "\x1b[1;31m"],
)
def test_progress_bars_and_colors_are_no_part_of_it(bar):
    assert last_words(f"begin\n{bar}error: the loss is NaN.\n") == "the loss is NaN."
    assert last_words(f"begin\n{bar}\n") is None
    assert last_line(f"begin\n{bar}\n") == "begin"


def test_the_last_of_several_messages_counts_and_silence_is_none():
    assert last_words("error: one\nerror: two\nmore\n") == "two"
    assert last_words("") is None
    assert last_line("\n \n") is None


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    (tmp_path / "log").write_bytes(b"x" * 1000 + b"\xff\nerror: the end\n")
    text = log_text(tmp_path / "log", newest=20)
    assert (len(text), last_words(text)) == (20, "the end")
    assert log_text(tmp_path / "none") is None
