"""What a corpus may lack: a task names it in one error before anything is computed, or counts it.

ASV, QbE and SD, which read their data in their own way, have such tests of their own.
"""

import numpy as np
import pytest
from evaluate.test_frame_level_tasks import SMALL, annotated_splits
from evaluate.tone_corpus import INTENT_OPTIONS, make_cut, make_splits, with_intents, write_splits
from lhotse.supervision import AlignmentItem

from speechft.conventions import SPLITS
from speechft.encoders import load_encoder
from speechft.errors import TaskError
from speechft.evaluate import evaluate
from speechft.evaluate.data.splits import load_splits
from speechft.tasks import get_task

OPTIONS = {"asr": SMALL, "sf": SMALL, "ic": INTENT_OPTIONS, "pc": {"inventory": "corpus"}}
TASKS = ("pr", "asr", "ks", "sid", "er", "ic", "sf", "pc")


def splits_of(task, folder):
    if task in ("asr", "sf", "pc"):
        return annotated_splits(folder)
    splits = make_splits(folder)
    return with_intents(splits) if task == "ic" else splits


def strange_cut(folder, samples=16_000, **annotation):
    """A recording that is as annotated as the others, but for `annotation`."""
    values = {"text": "PLAY JAZZ", "speaker": "anna", "label": "low", "phones": "axr", **annotation}
    waveform = 0.1 * np.sin(np.arange(samples))
    cut = make_cut(folder / "wav", "strange", waveform, values["text"], values["speaker"], values["label"])
    cut.supervisions[0].alignment = {"phone": [AlignmentItem(values["phones"], 0.0, cut.duration)]}
    return cut


USUAL_LABEL = {"ic": "low|anna", "sf": "O genre"}


def loaded(task, splits, folder, model_dir):
    return load_splits(get_task(task, **OPTIONS.get(task, {})), write_splits(folder, splits), load_encoder(model_dir), 1)[1]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", ["pr", "asr", "sf"])
def test_an_empty_transcript(task, split, model_dir, tmp_path):
    splits = splits_of(task, tmp_path)
    splits[split].append(strange_cut(tmp_path, text=" ", label="O"))
    with pytest.raises(TaskError, match=f"(?s){split} split.*strange: has an empty transcript"):
        loaded(task, splits, tmp_path, model_dir)


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(
    ("task", "annotation", "message"),
    [
        ("ks", {"label": "rare"}, "class 'rare' is not among"),
        ("sid", {"speaker": "zoe"}, "class 'zoe' is not among"),
        ("er", {"label": "rare"}, "class 'rare' is not among"),
        ("ic", {"label": "low|zoe"}, "voice 'zoe' is not among"),
        ("sf", {"label": "O rare"}, r"slot type\(s\) rare are not among"),
        ("pc", {"phones": "rare"}, "phones rare are not among those of the training data"),
    ],
)
def test_a_class_that_train_lacks(task, annotation, message, split, model_dir, tmp_path):
    splits = splits_of(task, tmp_path)
    splits[split].append(strange_cut(tmp_path, **annotation))
    with pytest.raises(TaskError, match=f"(?s){split} split: 1 utterance.*strange: {message}"):
        loaded(task, splits, tmp_path, model_dir)


@pytest.mark.parametrize("task", TASKS)
def test_an_utterance_that_is_shorter_than_a_frame(task, model_dir, tmp_path):
    short = strange_cut(tmp_path, samples=390, label=USUAL_LABEL.get(task, "low"), text="PLAY JAZZ" if task != "pr" else "one")
    splits = splits_of(task, tmp_path)
    splits["train"].append(short)
    train = loaded(task, splits, tmp_path, model_dir)["train"]
    assert train.dropped == {"shorter than one frame": 1}
    assert "strange" not in {cut.id for cut in train.cuts}
    splits["test"].append(splits["train"].pop())
    with pytest.raises(TaskError, match=r"(?s)test split: 1 recording\(s\) are shorter than one frame.*strange: 390 samples"):
        loaded(task, splits, tmp_path, model_dir)


@pytest.mark.parametrize("task", ["pr", "asr", "sf"])
def test_more_symbols_than_frames(task, model_dir, tmp_path):
    splits = splits_of(task, tmp_path)
    splits["train"].append(strange_cut(tmp_path, samples=1600, text="seven eleven", label="genre O"))
    assert loaded(task, splits, tmp_path, model_dir)["train"].dropped == {"target longer than its frames (loss 0)": 1}


def test_counts_are_those_of_the_cell(model_dir, tmp_path):
    splits = splits_of("ic", tmp_path)
    splits["train"].append(strange_cut(tmp_path, samples=390, label="low|anna"))
    recipe = {"protocol": "quick", "steps": 2, "eval_every": 1, "learning_rates": [1e-3], "task_options": INTENT_OPTIONS}
    cell = evaluate(model_dir, "ic", write_splits(tmp_path, splits), tmp_path / "ic.json", recipe)
    assert cell["counts"]["train"]["utterances"] == 18
    assert cell["counts"]["train"]["dropped"] == {"shorter than one frame": 1}
