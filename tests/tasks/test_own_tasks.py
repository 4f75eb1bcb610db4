"""Tasks of the user's own: labels of any column, and metrics against dense formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lhotse.supervision import AlignmentItem
from scipy.stats import pearsonr
from sklearn.metrics import balanced_accuracy_score, f1_score

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.asr import SpeechRecognition
from speechft.tasks.base import LabelSet
from speechft.tasks.pc import OUTSIDE

ONES = torch.ones(50, dtype=torch.long)


def row(name="u", phones=(), **columns):
    """A cut with columns of a CSV."""
    ours = {key: columns.pop(key, None) for key in ("text", "speaker")}
    items = [AlignmentItem(phone, start, round(end - start, 6)) for phone, start, end in phones]
    supervision = SimpleNamespace(**ours, custom=columns or None, alignment={"phone": items} if items else None)
    return SimpleNamespace(id=name, duration=1.0, custom=None, supervisions=[supervision])


def scores_in_parts(task, labels, logits, targets):
    """Scores from the summed statistics of two batches."""
    halves = [slice(0, 17), slice(17, None)]
    counts = [task.statistics(logits[half], ONES[: len(logits[half])], targets[half], labels) for half in halves]
    assert counts[0].keys() == counts[1].keys()
    return task.scores({key: counts[0][key] + counts[1][key] for key in counts[0]})


def test_metrics_of_classification():
    generator = torch.Generator().manual_seed(0)
    # Class 3 is nowhere a reference and class 4 is neither that nor a prediction.
    targets = torch.randint(3, (50,), generator=generator)
    logits = torch.randn(50, 5, generator=generator) + torch.tensor([1.0, 0, 0, 0, -100])
    task = get_task("classification", label="accent", metric=["uar", "acc", "f1"])
    found = scores_in_parts(task, LabelSet(tuple("abcde")), logits, list(targets))
    predicted = logits.argmax(dim=1)
    assert 3 in predicted
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        recall = balanced_accuracy_score(targets, predicted)
    assert found == {
        "accent_uar": pytest.approx(recall),
        "accent_acc": pytest.approx((predicted == targets).float().mean().item()),
        "accent_f1": pytest.approx(f1_score(targets, predicted, average="macro")),
    }
    assert [metric.title for metric in task.metrics] == ["accent UAR % ↑", "accent acc % ↑", "accent macro F1 % ↑"]
    assert task.selection_metric.key == "accent_uar"


def test_metrics_of_multilabel():
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(50, 4, generator=generator) < 0.3).float()
    targets[:, 3] = 0.0
    logits = torch.randn(50, 4, generator=generator) - torch.tensor([0.0, 0.5, 0, 100])
    task = get_task("multilabel", name="moods", metric=("f1", "f1_micro"))
    found = scores_in_parts(task, LabelSet(tuple("abcd")), logits, list(targets))
    truth, predicted = targets.int().numpy(), (logits > 0).int().numpy()
    assert found["moods_f1"] == pytest.approx(f1_score(truth, predicted, average="macro", zero_division=0))
    assert found["moods_f1_micro"] == pytest.approx(f1_score(truth, predicted, average="micro"))


def test_metrics_of_regression():
    generator = np.random.default_rng(0)
    ages = generator.normal(1e6, 12.0, 50)  # far from 0: sums of squares would lose all digits
    task = get_task("regression", label="age", metric=["mse", "pearson", "ccc"])
    labels = task.label_set(row(f"u{i}", age=repr(float(age))) for i, age in enumerate(ages))
    assert labels.extra == {"mean": pytest.approx(ages.mean()), "deviation": pytest.approx(ages.std())}
    others = [row(age=repr(float(age))) for age in generator.normal(1e6 + 5, 12.0, 50)]
    targets = task.targets(others, labels, "test")
    logits = torch.stack(targets) * 0.7 + torch.tensor(generator.normal(0.2, 0.5, (50, 1)), dtype=torch.float32)
    found = scores_in_parts(task, labels, logits, targets)
    x = logits[:, 0].double().numpy() * ages.std() + ages.mean()
    y = np.array([float(cut.supervisions[0].custom["age"]) for cut in others])
    covariance = np.cov(x, y, bias=True)
    concordance = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (x.mean() - y.mean()) ** 2)
    expected = {"age_mse": np.mean((x - y) ** 2), "age_pearson": pearsonr(x, y)[0], "age_ccc": concordance}
    assert found == {key: pytest.approx(value, rel=1e-5) for key, value in expected.items()}


def test_a_constant_prediction_is_uncorrelated():
    task, labels = get_task("regression", label="age", metric=["pearson", "ccc"]), LabelSet(("age",), {"mean": 0.0, "deviation": 2.0})
    counts = task.statistics(torch.zeros(2, 1), ONES[:2], [torch.tensor([1.0]), torch.tensor([-1.0])], labels)
    assert task.scores(counts) == {"age_pearson": 0.0, "age_ccc": 0.0}
    counts = task.statistics(torch.zeros(1, 1), ONES[:1], [torch.tensor([0.0])], labels)
    assert task.scores(counts) == {"age_pearson": 0.0, "age_ccc": 0.0}


def test_the_loss_of_regression_is_that_of_standardized_numbers():
    task = get_task("regression", label="age")
    labels = task.label_set([row(age="10"), row(age="30")])
    targets = task.targets([row(age="10"), row(age="40")], labels, "train")
    assert torch.equal(torch.stack(targets), torch.tensor([[-1.0], [2.0]]))
    assert float(task.loss(torch.zeros(2, 1), ONES[:2], targets)) == 2.5
    assert task.build_head(8, labels)(torch.zeros(2, 3, 8), torch.tensor([3, 2]))[0].shape == (2, 1)


def test_classes_of_a_cell():
    task = get_task("multilabel", label="mood")
    cuts = [row(mood="glad | loud"), row(mood="sad"), row(mood="")]
    labels = task.label_set(cuts)
    assert labels.symbols == ("glad", "loud", "sad")
    assert [target.tolist() for target in task.targets(cuts, labels, "train")] == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert get_task("multilabel", separator=";", label="mood").class_names(row(mood="a;b|c")) == ["a", "b|c"]
    expected = torch.nn.functional.binary_cross_entropy(torch.full((1, 3), 0.5), torch.tensor([[1.0, 0, 0]]))
    assert float(task.loss(torch.zeros(1, 3), ONES[:1], [torch.tensor([1.0, 0, 0])])) == pytest.approx(float(expected))


def test_columns_of_every_origin():
    cut = row(text="Hello", speaker="ann", accent="Scots")
    cut.custom = {"fold": "2"}
    found = {label: get_task("classification", label=label).class_name(cut) for label in ("text", "speaker", "accent", "fold")}
    assert found == {"text": "Hello", "speaker": "ann", "accent": "Scots", "fold": "2"}


def test_folds_divide_the_corpus():
    cuts = [row(f"u{i}", accent="xy"[i % 2]) for i in range(8)]
    for i, cut in enumerate(cuts):
        cut.custom = {"fold": "ab"[i // 4]}
    assert {name: len(split["test"]) for name, split in get_task("classification", label="accent").folds(cuts).items()} == {"a": 4, "b": 4}


def test_transcription_reads_any_column():
    task = get_task("ctc", label="phonemes", metric=["cer", "wer"], spec_augment=False)
    labels = task.label_set([row(text="no", phonemes="ba ab")])
    target = task.target(row(phonemes="Ab ba"), labels)
    path = task.target(row(phonemes="ab aa"), labels).tolist()
    counts = task.utterance_statistics([symbol for index in path for symbol in (index, 0)], target.tolist(), labels)
    assert task.scores(counts) == {"phonemes_cer": 1 / 5, "phonemes_wer": 1 / 2}
    head = task.build_head(8, labels)
    assert [rnn.hidden_size for rnn in head.rnns] == [256, 256]
    assert task.loss.__func__ is SpeechRecognition.loss


@pytest.mark.parametrize(("spelling", "units"), [("characters", 4), ("unigram", 4), ("tedlium", 4), ("superb", 5)])
def test_what_the_character_error_rate_counts(spelling, units):
    """Characters, spaces included; of SUPERB's spelling symbols, of which every word has a bar at its end."""
    task, cuts = get_task("ctc", spelling=spelling, pieces=12), [row(text="ab c"), row(text="a bc cab")]
    labels = task.label_set(cuts)
    counts = task.utterance_statistics([], task.target(cuts[0], labels).tolist(), labels)
    assert (counts["unit_edits"], counts["units"], counts["words"]) == (units, units, 2)


@pytest.mark.parametrize(
    ("label", "cut"), [("phones", row(phones=[("s", 0, 0.1), ("v", 0.12, 0.2)])), ("vad", row(vad="s:0-0.1 v:0.12-0.2"))]
)
def test_frames_have_the_classes_of_their_segments(label, cut):
    task = get_task("frame_classification", label=label, metric=["acc", "uar"])
    labels = task.label_set([cut])
    assert labels.symbols == ("s", "v")
    target = task.target(cut, labels)
    assert target.tolist() == [0] * 5 + [OUTSIDE] + [1] * 4 + [OUTSIDE] * 40
    logits = torch.zeros(1, 9, 2)  # the tenth labelled frame lies behind the last one of the encoder
    logits[0, :, 0] = 1.0
    found = task.scores(task.statistics(logits, torch.tensor([9]), [target], labels))
    assert found == {f"{label}_acc": 5 / 8, f"{label}_uar": 0.5}


def test_verification_of_any_class():
    task = get_task("verification", label="device")
    labels = task.label_set([row("a", device="phone"), row("b", device="radio")])
    assert (labels.symbols, task.metrics[0].key, task.gain, task.min_seconds) == (("phone", "radio"), "device_eer", 1.0, 0.0)
    assert task.selection_metric.key == "ASV_ACC"


NO_COLUMN = r"no utterance of train has a value in column 'acent'\. Did you mean 'accent'\? Columns with values: accent, text\."


@pytest.mark.parametrize(
    ("kind", "options", "cuts", "words"),
    [
        ("classification", {"label": "acent"}, [row(text="a", accent="x")], NO_COLUMN),
        ("multilabel", {"label": "acent"}, [row(text="a", accent="x")], NO_COLUMN),
        ("ctc", {"label": "acent"}, [row(text="a", accent="x")], NO_COLUMN),
        ("classification", {"label": "accent"}, [row("a", accent="x"), row("b")], r"b: has no accent\. Fill the corpus's accent column"),
        ("regression", {"label": "age"}, [row("a", age="12"), row("b", age="old")], r"b: age 'old' is not a number"),
        ("regression", {"label": "age"}, [row("a", age="12"), row("b", age="nan")], r"b: age 'nan' is not a number"),
        ("regression", {"label": "age"}, [row(age="12"), row(age="12")], "the same number 12 in all of train"),
        ("regression", {"label": "age"}, [row(age="0.1")] * 3, "the same number 0.1 in all of train"),
        ("frame_classification", {"label": "vad"}, [row("a", vad="s:0-0.1 v")], "a: vad: 'v' is not label:start-end"),
    ],
)
def test_training_splits_that_cannot_be_learned(kind, options, cuts, words):
    with pytest.raises(TaskError, match=words):
        get_task(kind, **options).label_set(cuts)


def test_classes_that_train_lacks():
    task = get_task("multilabel", label="mood")
    with pytest.raises(TaskError, match="b: class 'odd' is not among the 2 classes"):
        task.target(row("b", mood="glad|odd"), LabelSet(("glad", "sad")))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("clasification", {}, "Unknown task 'clasification'. Did you mean 'classification'?"),
        ("regression", {"metric": "uar"}, "Unknown metric of kind regression 'uar'. Available: mse, pearson, ccc."),
        ("classification", {"name": "PR"}, "Task 'PR' already exists and has no kind."),
        ("classification", {"name": "my task"}, "names begin with a letter or digit"),
        ("multilabel", {"separator": ""}, "separator='' must be a nonempty text"),
        ("ctc", {"layer": 2}, "unexpected keyword argument 'layer'"),
    ],
)
def test_options_that_are_refused(kind, options, words):
    with pytest.raises(TaskError) as caught:
        get_task(kind, **options)
    assert words in str(caught.value)
