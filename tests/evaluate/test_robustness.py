"""What a corpus may lack: a task names it in one error before anything is computed, or counts it.

ASV, QbE and SD, which read their data in their own way, have such tests of their own.
"""

import numpy as np
import pytest
from evaluate.corpora import FEW, QUICK, SMALL, annotated_splits
from evaluate.tone_corpus import INTENT_OPTIONS, make_cut, make_splits, with_intents, write_splits
from lhotse.supervision import AlignmentItem

from speechft.encoders import fbank_encoder, load_encoder
from speechft.errors import TaskError
from speechft.evaluate import evaluate
from speechft.evaluate.data.splits import load_splits
from speechft.tasks import get_task

OPTIONS = {"asr": SMALL, "sf": SMALL, "ic": INTENT_OPTIONS}
WORDS = {"text": "PLAY JAZZ", "label": "O genre"}
USUAL = {"ic": {"label": "low|anna"}, "pr": {"text": "one"}, "asr": WORDS, "sf": WORDS, "pc": WORDS}


def splits_of(task, folder):
    if task in ("asr", "sf", "pc"):
        return annotated_splits(folder)
    splits = make_splits(folder)
    return with_intents(splits) if task == "ic" else splits


def strange_cut(task, folder, samples=16_000, cut_id="strange", phones="axr", **annotation):
    """A recording that is as annotated as the others, but for `annotation`."""
    cut = make_cut(folder / "wav", cut_id, 0.1 * np.sin(np.arange(samples)), **{**USUAL.get(task, {}), **annotation})
    cut.supervisions[0].alignment = phones and {"phone": [AlignmentItem(phones, 0.0, cut.duration)]}
    return cut


@pytest.fixture
def loaded(model_dir, tmp_path):
    def load(task, splits, model=model_dir, **options):
        manifests = write_splits(tmp_path, splits)
        return load_splits(get_task(task, **(OPTIONS.get(task, {}) | options)), manifests, load_encoder(model), 1)[1]

    return load


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(
    ("task", "annotation", "message"),
    [
        ("ks", {"label": "rare"}, r"class 'rare' is not among the 3 classes of the training data \(high, low, middle\)"),
        ("ks", {"label": None}, "has no label"),
        ("sid", {"speaker": "zoe"}, "class 'zoe' is not among"),
        ("er", {"label": "rare"}, "class 'rare' is not among"),
        ("ic", {"label": "low|zoe"}, "voice 'zoe' is not among"),
        ("sf", {"label": "O rare"}, r"slot type\(s\) rare are not among the 2"),
        ("sf", {"label": "O"}, r"has 2 word\(s\), but 1 slot"),
        *((task, {"text": " ", "label": "O"}, "has an empty transcript") for task in ("pr", "asr", "sf")),
        ("pc", {"phones": "rare", "inventory": "corpus"}, "phones rare are not among those of the training data"),
        ("pc", {"phones": "xx"}, "phones xx are not among TIMIT's 61"),
        ("pc", {"phones": None}, "has no phone segments"),
    ],
)
def test_targets_that_cannot_be_made(task, annotation, message, split, loaded, tmp_path):
    splits, annotation = splits_of(task, tmp_path), dict(annotation)
    options = {"inventory": annotation.pop("inventory")} if "inventory" in annotation else {}
    splits[split].append(strange_cut(task, tmp_path, **annotation))
    with pytest.raises(TaskError, match=f"(?s){split} split: 1 utterance.*strange: {message}"):
        loaded(task, splits, **options)


@pytest.mark.parametrize("task", ["pr", "asr", "sf"])
def test_a_training_utterance_without_transcript(task, loaded, tmp_path):
    splits = splits_of(task, tmp_path)
    splits["train"].append(strange_cut(task, tmp_path, text=" ", label="O"))
    with pytest.raises(TaskError, match="(?s)train split.*strange: has an empty transcript"):
        loaded(task, splits)


@pytest.mark.parametrize("task", ["pr", "asr", "ks", "sid", "er", "ic", "sf", "pc"])
def test_an_utterance_that_is_shorter_than_a_frame(task, loaded, tmp_path):
    splits = splits_of(task, tmp_path)
    splits["train"].append(strange_cut(task, tmp_path, samples=399))
    train = loaded(task, splits)["train"]
    assert train.dropped == {"shorter than one frame": 1}
    assert "strange" not in {cut.id for cut in train.cuts}
    for split in ("dev", "test"):
        with pytest.raises(TaskError, match=rf"(?s){split} split: 1 recording\(s\) are shorter than one frame.*strange: 399 samples"):
            loaded(task, {**splits, "train": splits["train"][:-1], split: [*splits[split], splits["train"][-1]]})


def test_filterbanks_have_the_same_shortest_utterance(loaded, tmp_path):
    fbank, splits = fbank_encoder(tmp_path / "fbank"), splits_of("ks", tmp_path)
    splits["train"] += [strange_cut("ks", tmp_path, samples, f"s{samples}") for samples in (399, 400)]
    assert loaded("ks", splits, fbank)["train"].dropped == loaded("ks", splits)["train"].dropped == {"shorter than one frame": 1}


@pytest.mark.parametrize("task", ["pr", "asr", "sf"])
def test_more_symbols_than_frames(task, loaded, tmp_path):
    splits = splits_of(task, tmp_path)
    splits["train"].append(strange_cut(task, tmp_path, samples=1600, text="seven eleven", label="genre O"))
    assert loaded(task, splits)["train"].dropped == {"target longer than its frames (loss 0)": 1}


@pytest.mark.parametrize(
    ("task", "kept", "samples", "dropped"),
    [("ic", 18, 390, {"shorter than one frame": 1}), ("asr", 12, 16_000, {"alone in the last bucket": 1})],
)
def test_what_is_left_out_is_counted_in_the_cell(task, kept, samples, dropped, model_dir, tmp_path):
    splits = splits_of(task, tmp_path)
    splits["train"] = [*splits["train"][:kept], strange_cut(task, tmp_path, samples)]
    recipe = {**QUICK[task], "steps": 2, "eval_every": 1}
    train = evaluate(model_dir, task, write_splits(tmp_path, splits), tmp_path / "cell.json", recipe)["counts"]["train"]
    assert (train["utterances"], train["dropped"]) == (kept + (task == "asr"), dropped)


def test_words_without_pronunciation_are_told_of_all_splits_before_features(model_dir, tmp_path, count_passes):
    splits = make_splits(tmp_path, FEW)
    for split, word in (("train", "qwrtz"), ("dev", "xyzzyq"), ("test", "qwrtz")):
        splits[split].append(strange_cut("pr", tmp_path, cut_id=f"strange-{split}", text=f"one {word}"))
    with pytest.raises(TaskError) as caught:
        evaluate(model_dir, "pr", write_splits(tmp_path, splits), tmp_path / "a.json", QUICK["pr"])
    heading, *lines = str(caught.value).splitlines()
    assert heading.startswith("pr: 2 word(s) are in none of the lexicons cmudict (train 1, dev 1, test 1). ")
    assert lines == ["  QWRTZ: strange-train, strange-test", "  XYZZYQ: strange-dev"]
    assert not count_passes
    assert not list(tmp_path.glob("*.json"))


def test_a_class_that_train_lacks_is_an_error_though_the_options_name_it(loaded, tmp_path):
    splits, classes = make_splits(tmp_path, FEW), ["low", "middle", "high", "silent"]

    def without_high(name):
        splits[name] = [cut for cut in splits[name] if cut.supervisions[0].custom["label"] != "high"]

    without_high("train")
    with pytest.raises(TaskError, match=r"(?s)dev split: 1 utterance.*does not occur in train.*dev002: class 'high'"):
        loaded("ks", splits, classes=classes)
    # A class that nobody has does no harm.
    without_high("dev")
    without_high("test")
    assert len(loaded("ks", splits, classes=classes)["train"]) == 4
