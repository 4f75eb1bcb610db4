"""Options, labels and transcripts that a task refuses."""

from types import SimpleNamespace

import pytest
from tasks.samples import cut, mixture

from speechft.errors import TaskError
from speechft.tasks import get_task

OPTIONS = [
    ("nothing", {}, "Unknown task 'nothing'"),
    ("sid", {"color": "red"}, "Task 'sid'"),
    *(("ks", {"classes": wrong}, "classes=") for wrong in ("other", ["a"], ["a", "a"])),
    ("sid", {"source": "text"}, "source="),
    *(("ic", {"slots": wrong}, "slots=") for wrong in ([], ["a", "a"], "verb", [""])),
    ("pc", {"inventory": "ipa"}, "inventory='ipa'"),
    ("qbe", {"distance": "euclidean"}, "distance='euclidean' is unknown"),
    ("asr", {"spelling": "letters"}, "spelling='letters'"),
    ("asr", {"selection": "per"}, "selection='per'"),
    *(
        (name, wrong, f"{name}: {next(iter(wrong))}=")
        for name in ("asr", "sf")
        for wrong in ({"projected": 0}, {"hidden": 1.5}, {"layers": True}, {"dropout": 1.0}, {"spec_augment": "no"})
    ),
    *(("asv", wrong, "asv: margin=") for wrong in ({"margin": -1.0}, {"scale": 0.0}, {"min_seconds": -1.0})),
    ("asv", {"pooled_width": 0}, "asv: pooled_width=0 must be a positive integer"),
    ("sd", {"hidden": True}, "sd: hidden=True must be a positive integer"),
]


@pytest.mark.parametrize(("name", "options", "message"), OPTIONS)
def test_options(name, options, message):
    with pytest.raises(TaskError, match=message):
        get_task(name, **options)


def phones(*segments, cut_id="u"):
    return cut(cut_id, phones=segments)


B = phones(("B", 0.0, 0.1))
VERB = {"slots": ["verb", "noun"]}
CORPUS = {"inventory": "corpus"}
MALFORMED = r"(?s)1 utterance\(s\) have no intent.*bad: label .* does not have the form action\|object\|location"
INTENTS = [cut(f"u{i}", label=label) for i, label in enumerate(["change|none|none", "activate|music|none", "activate|lights|kitchen"])]
LABEL_SETS = [
    ("ks", {}, [cut("a", label="one"), cut("b"), cut("c", label="")], r"(?s)2 utterance\(s\).*b: has no label.*c: has no label"),
    ("ks", {}, [SimpleNamespace(id="x", supervisions=[])], "0 supervisions"),
    ("er", {}, [cut("c")], "c: has no label"),
    ("sid", {}, [cut("a", speaker=None)], "a: has no speaker"),
    ("sid", {}, [cut(speaker="ann")], r"at least two different labels \(class\)"),
    *(("ic", {}, [*INTENTS, cut("bad", label=wrong)], MALFORMED) for wrong in ("a|b", "a|b|c|now", "a||c", "a, b, c")),
    ("ic", VERB, [cut(label="go|home")], "at least two values"),
    ("ic", VERB, [cut(label="go|home"), cut("b", label="")], "b: has no label"),
    ("pc", CORPUS, [B, phones(cut_id="w")], r"(?s)1 utterance.*w: has no phone segments"),
    ("pc", CORPUS, [B], r"at least two different labels \(phones\)"),
    *(("asr", {"spelling": name}, [cut(text=""), cut()], "no training utterance has a transcript") for name in ("characters", "unigram")),
    (
        "sf",
        {},
        [cut("a", "A B", "x"), cut("b", "", "x"), cut("c", "A", "x")],
        r"(?s)2 utterance\(s\).*a: has 2 word\(s\), but 1 slot.*b: has an empty transcript",
    ),
    ("sf", {}, [cut(text="A")], "has 1 word.s., but 0 slot"),
    ("sf", {}, [cut(text="A B", label="O O")], "every word of the train split is labeled 'O'"),
    ("sf", {}, [cut(text="A B", label="a:b O")], "slot types 'a:b'"),
]


@pytest.mark.parametrize(("name", "options", "cuts", "message"), LABEL_SETS)
def test_training_splits(name, options, cuts, message):
    with pytest.raises(TaskError, match=message):
        get_task(name, **options).label_set(cuts)


TRAIN = {
    "sid": [cut("a", speaker="ann"), cut("b", speaker="bob")],
    "asv": [cut("a", speaker="ann"), cut("b", speaker="bob")],
    "ic": INTENTS,
    "asr": [cut(text=text) for text in ("the cat sat", "a cat ate the rat", "tea at three")],
    "sf": [cut(text="A", label="x")],
}
TIMIT = {"inventory": "timit39"}
TARGETS = [
    ("sid", {}, [cut("c", speaker="cid"), cut("d", speaker="ann"), cut("e", speaker="eve")], "c: class 'cid'.*e: class 'eve'"),
    ("asv", {}, [cut(speaker=None)], "u: has no speaker"),
    (
        "ic",
        {},
        [cut("x", label="activate|kitchen|none")],
        r"x: object 'kitchen' is not among the 3 values in the training data \(none, music, lights\)",
    ),
    *(
        ("asr", {"spelling": spelling}, [cut(text=text)], "u: has an empty transcript")
        for spelling in ("superb", "tedlium", "characters", "unigram")
        for text in (None, "", "  ")
    ),
    ("asr", {"spelling": "tedlium"}, [cut(text="a"), cut("v", "!!! 12")], "v: its transcript '!!! 12' has no letters to spell"),
    ("sf", {}, [cut(text="A", label="x"), cut("v", "A B", "z y")], r"\n  v: slot type\(s\) y, z are not among the 1"),
    ("pc", TIMIT, [phones()], "u: has no phone segments"),
    ("pc", TIMIT, [phones(("AH0", 0.0, 0.1))], "u: phones AH0 are not among TIMIT's 61"),
    ("pc", TIMIT, [phones(("s", 0.0, 0.1), ("iy", 0.09, 0.2))], "u: .*'iy' starts at 0.09 s, before the previous one ends"),
    ("pc", TIMIT, [phones(("q", 0.0, 0.2))], "u: no frame"),
    ("pc", TIMIT, [phones(("s", 0.011, 0.029))], "u: no frame"),
    (
        "sd",
        {},
        [mixture("one", "a", "a"), mixture("good", "b", "a", "b"), mixture("three", "a", "c", "b")],
        r"one: has 1 speaker\(s\) \(a\).*three: has 3 speaker\(s\) \(a, b, c\)",
    ),
    ("sd", {}, [mixture("none")], "none: has 0 speaker"),
    ("sd", {}, [mixture("x", "a", None)], "x: a turn has no speaker"),
]


@pytest.mark.parametrize(("name", "options", "cuts", "message"), TARGETS)
def test_targets(name, options, cuts, message):
    task = get_task(name, **options)
    labels = task.label_set(TRAIN.get(name, []))
    refused = 2 if len(cuts) == 3 else 1
    with pytest.raises(TaskError, match=rf"(?s)The dev split: {refused} utterance\(s\) have no target for task '{name}'.*{message}"):
        task.targets(cuts, labels, "The dev split")


def test_phones_that_train_lacks():
    task = get_task("pc", **CORPUS)
    labels = task.label_set([B, phones(("AH0", 0.0, 0.1))])
    with pytest.raises(TaskError, match=r"dev: 1 utterance.*\n  v: phones Q, X are not among those of the training data"):
        task.targets([B, phones(("X", 0.0, 0.1), ("Q", 0.1, 0.2), cut_id="v")], labels, "dev")
