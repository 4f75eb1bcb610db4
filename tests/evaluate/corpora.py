"""A small corpus and a quick recipe for each task; `tone_corpus` has those of tasks that need no more than a label, text or speaker."""

import numpy as np
from evaluate.tone_corpus import INTENT_OPTIONS, PITCH, SIZES, SPEAKERS, make_cut, make_splits, tone, with_intents, write_splits
from lhotse import SupervisionSegment
from lhotse.supervision import AlignmentItem

from speechft.corpora.trials import Trial, write_trials

SMALL = {"projected": 24, "hidden": 16, "layers": 2}
FEW = {"train": 6, "dev": 3, "test": 3}


def _quick(steps, every, *rates, batch_size=4, **others):
    searched = {"learning_rates": list(rates), "lr_search": "grid"}
    return {"protocol": "quick", "steps": steps, "eval_every": every, **searched, "batch_size": batch_size, **others}


QUICK = {
    "ks": _quick(60, 20, 1e-2, 1e-5, batch_size=8),
    "sid": _quick(60, 20, 1e-2, 1e-3, accumulate=2),
    "er": _quick(60, 20, 1e-2, 1e-3, accumulate=2),
    "ic": _quick(200, 50, 1e-2, accumulate=2, task_options=INTENT_OPTIONS),
    "pr": _quick(20, 10, 1e-1, 1e-3, accumulate=2),
    "asr": _quick(8, 4, 1e-2, 1e-3, batch_size=6, task_options=SMALL),
    "sf": _quick(8, 4, 1e-2, 1e-3, task_options=SMALL),
    "pc": _quick(8, 4, 1e-2, 1e-4, batch_size=6),
    "sd": _quick(10, 5, 3e-3, 1e-6, batch_size=2, accumulate=1),
    "asv": _quick(4, 2, 1e-3, 1e-7, accumulate=2, task_options={"min_seconds": 0.3}),
    "qbe": {},
}


def intents(folder):
    """Two slots: keyword and speaker."""
    return write_splits(folder, with_intents(make_splits(folder)))


FOLDS = {"Ses1": 9, "Ses2": 12, "Ses3": 10}


def folded_cuts(folder, sizes=None):
    """Tones that name their fold, in random order."""
    generator, cuts = np.random.default_rng(3), []
    for fold, size in (sizes or FOLDS).items():
        for index in range(size):
            label, speaker = list(PITCH)[index % 3], SPEAKERS[index % 2]
            waveform = tone(PITCH[label], speaker, int(generator.integers(6000, 9000)), generator)
            cuts.append(make_cut(folder / "wav", f"{fold}_{index:02d}", waveform, speaker=speaker, label=label))
            cuts[-1].custom = {"fold": fold}
    return [cuts[index] for index in generator.permutation(len(cuts))]


def folds(folder, sizes=None):
    return write_splits(folder, {"train": folded_cuts(folder, sizes)})


PHONES = {"low": "axr", "middle": "iy", "high": "s"}
WORDS = {"low": ("PLAY JAZZ", "O genre"), "middle": ("GO", "O"), "high": ("CALL MY MUM", "O person person")}


def annotated_splits(folder):
    """One pitch, then another; words and slots of the first, phones of both."""
    generator = np.random.default_rng(0)
    pairs = [(first, second) for first in PITCH for second in PITCH if first != second]

    def annotated(cut_id, kinds):
        samples = [int(generator.integers(4000, 7000)) for _ in kinds]
        parts = [tone(PITCH[kind], "anna", count, generator) for kind, count in zip(kinds, samples, strict=True)]
        cut = make_cut(folder / "wav", cut_id, np.concatenate(parts), WORDS[kinds[0]][0], "anna", WORDS[kinds[0]][1])
        border, end = samples[0] / 16000, sum(samples) / 16000
        segments = ((0.0, border), (border, end - border))
        phones = [AlignmentItem(PHONES[kind], *segment) for kind, segment in zip(kinds, segments, strict=True)]
        cut.supervisions[0].alignment = {"phone": phones}
        return cut

    return {name: [annotated(f"{name}{i:03d}", pairs[i % len(pairs)]) for i in range(size)] for name, size in SIZES.items()}


def annotated(folder):
    return write_splits(folder, annotated_splits(folder))


def make_mixture(folder, name, seconds, generator, speakers=("a", "b")):
    """Two tones that come and go; who has which pitch changes from one recording to the next."""
    time, turns = np.arange(round(seconds * 16000)) / 16000, []
    waveform = 0.01 * generator.standard_normal(len(time))
    for speaker, pitch in zip(speakers, (300.0, 1500.0), strict=False):
        for start in np.sort(generator.uniform(0, seconds - 0.5, 2)).round(2):
            turns.append(SupervisionSegment(f"{name}-{len(turns)}", name, float(start), 0.4, channel=0, speaker=speaker))
            waveform += ((time >= start) & (time < start + 0.4)) * 0.2 * np.sin(2 * np.pi * pitch * time)
    cut = make_cut(folder / "wav", name, waveform)
    cut.supervisions = turns
    return cut


def mixtures(folder):
    generator = np.random.default_rng(0)
    sizes = {"train": 6, "dev": 2, "test": 3}
    return write_splits(
        folder,
        {name: [make_mixture(folder, f"{name}{i}", 1.0 + 0.5 * (i % 3), generator) for i in range(size)] for name, size in sizes.items()},
    )


VOICES = {"ann": 150.0, "bob": 400.0, "cid": 900.0, "dan": 1900.0, "eve": 300.0, "flo": 2500.0, "gus": 550.0}


def voice(speaker, seconds, generator):
    time = np.arange(round(seconds * 16000)) / 16000
    return 0.2 * sum(np.sin(2 * np.pi * VOICES[speaker] * k * time) / k for k in (1, 2, 3)) + 0.01 * generator.standard_normal(len(time))


def spoken(folder, speakers, count, generator):
    """`count` recordings of each speaker."""
    return [
        make_cut(folder / "wav", f"{speaker}-{index}", voice(speaker, generator.uniform(0.4, 0.8), generator), speaker=speaker)
        for speaker in speakers
        for index in range(count)
    ]


def trials_of(cuts):
    """All pairs of recordings `speaker-number`."""
    names = [cut.id for cut in cuts]
    return [Trial(a.split("-")[0] == b.split("-")[0], a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def write_speakers(folder, trials_among=("test",), **splits):
    """Manifests, with trials among the recordings of some splits."""
    manifests = write_splits(folder, splits)
    write_trials(manifests / "trials.csv", [trial for name in trials_among for trial in trials_of(splits[name])])
    return manifests


def speakers(folder):
    generator = np.random.default_rng(0)
    train, test = (spoken(folder, names, count, generator) for names, count in ((("ann", "bob", "cid"), 4), (("dan", "eve"), 3)))
    dev = [*spoken(folder, ("flo",), 3, generator), *spoken(folder, ("gus",), 2, generator)]
    return write_speakers(folder, ("test", "dev"), train=train, dev=dev, test=test)


TERMS = {"up": (300.0, 1200.0), "down": (1200.0, 300.0), "flat": (700.0, 700.0)}
HOLDERS = {"up": ("d0", "d3"), "down": ("d1", "d3"), "flat": ("d2",)}


def term(name, generator):
    """A tone that glides from one pitch to another within 0.3 s."""
    return 0.3 * np.sin(2 * np.pi * np.cumsum(np.linspace(*TERMS[name], 4800)) / 16000) + 0.01 * generator.standard_normal(4800)


def make_entry(folder, name, waveform, label, relevant=None):
    cut = make_cut(folder / "wav", name, waveform, label=label)
    if relevant is not None:
        cut.supervisions[0].custom["relevant"] = relevant
    return cut


def search_splits(folder):
    """One collection of documents, in test; dev and test have queries."""
    generator = np.random.default_rng(0)

    def document(name):
        parts = [0.02 * generator.standard_normal(3200)]
        for held in (held for held, holders in HOLDERS.items() if name in holders):
            parts += [term(held, generator), 0.02 * generator.standard_normal(round(16000 * generator.uniform(0.1, 0.4)))]
        return make_entry(folder, name, np.concatenate(parts), "document")

    documents = [document(f"d{index}") for index in range(5)]
    queries = {
        split: [make_entry(folder, f"{split}-{name}", term(name, generator), "query", " ".join(HOLDERS[name])) for name in TERMS]
        for split in ("dev", "test")
    }
    return {"dev": queries["dev"], "test": [*queries["test"], *documents]}


def searches(folder):
    return write_splits(folder, search_splits(folder))


CORPORA = {
    **dict.fromkeys(("asr", "asr_zh", "sf", "pc"), annotated),
    "ic": intents,
    "folds": folds,
    "sd": mixtures,
    "asv": speakers,
    "qbe": searches,
}
