import json
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from evaluate.corpora import CORPORA, QUICK
from evaluate.tone_corpus import make_corpus

from speechft.encoders import load_encoder, random_encoder
from speechft.evaluate import evaluate
from speechft.evaluate.data.features import FrozenEncoder
from speechft.evaluate.data.splits import load_splits
from speechft.evaluate.probes.bank import Setting, new_head
from speechft.evaluate.probes.separate import SeparateProbes
from speechft.evaluate.probes.stacked import StackedProbes
from speechft.recipes.evaluation import evaluation_recipe
from speechft.tasks import get_task


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A tiny HuBERT with random weights."""
    return random_encoder("hubert", tmp_path_factory.mktemp("encoder") / "hubert", seed=0)


@pytest.fixture(scope="session")
def corpus_of(tmp_path_factory):
    """Manifests of the corpus of a task, made once."""
    made = {}

    def corpus(task):
        make = CORPORA.get(task, make_corpus)
        if make not in made:
            made[make] = make(tmp_path_factory.mktemp(make.__name__))
        return made[make]

    return corpus


@pytest.fixture(scope="session")
def manifests(corpus_of):
    """Manifests of the corpus of tones."""
    return corpus_of("tones")


@pytest.fixture(scope="session")
def cell_of(model_dir, corpus_of, tmp_path_factory):
    """The cell of a task with its quick recipe and changes to it; each is evaluated once."""
    done = {}

    def cell(task, corpus=None, **changes):
        key = json.dumps([task, corpus, changes])
        if key not in done:
            done[key] = tmp_path_factory.mktemp("cells") / "cell.json"
            evaluate(model_dir, task, corpus_of(corpus or task), done[key], {**QUICK[task], **changes})
        return json.loads(done[key].read_text())

    return cell


@pytest.fixture(scope="session")
def prepare(model_dir, corpus_of):
    """Encoder, splits, setting and a head of a task, as an evaluation makes them."""

    def prepared(task_name, seed=0, options=None, **changes):
        task = get_task(task_name, **(options or QUICK[task_name].get("task_options", {})))
        encoder = FrozenEncoder(load_encoder(model_dir), torch.device("cpu"), task.gain)
        labels, splits = load_splits(task, corpus_of(task_name), encoder.encoder, crop_draws=1)
        recipe = evaluation_recipe(task_name, {"protocol": "quick", "steps": 10, "eval_every": 5, **changes})
        setting, states = Setting(task, labels, recipe, encoder.device), encoder.encoder.num_states
        head = new_head(task, encoder.encoder.hidden_size, labels, seed)
        return SimpleNamespace(encoder=encoder, splits=splits, setting=setting, states=states, head=head, train=splits["train"])

    return prepared


@pytest.fixture
def count_passes(monkeypatch):
    """Clips that went through an encoder since the start of the test."""
    counted = Counter()
    original = FrozenEncoder.__call__

    def counting(self, clips):
        counted["clips"] += len(clips)
        return original(self, clips)

    monkeypatch.setattr(FrozenEncoder, "__call__", counting)
    return counted


@pytest.fixture
def kill_after(monkeypatch):
    """Count optimizer steps, and end the evaluation at the n-th."""
    made = {"steps": 0, "limit": None}

    def counting(bank_type):
        original = bank_type.train_step

        def train_step(self, features, batches):
            if made["steps"] == made["limit"]:
                raise KeyboardInterrupt
            made["steps"] += 1
            return original(self, features, batches)

        monkeypatch.setattr(bank_type, "train_step", train_step)

    counting(StackedProbes)
    counting(SeparateProbes)

    def start(limit=None):
        made.update(steps=0, limit=limit)
        return made

    return start
