import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tasks.recorded_steps import train_as_recorded
from torch.nn.utils.rnn import pad_sequence

from speechft.errors import TaskError
from speechft.tasks import get_task
from speechft.tasks.asv import SILENCE_LEVEL, without_silence
from speechft.tasks.base import LabelSet
from speechft.tasks.xvector import LOST_FRAMES, MIN_FRAMES, XVectorHead, additive_margin_loss, mean_and_deviation


class Recorded:
    """The head of ASV as the reference trained it for three steps."""

    def __init__(self, golden):
        folder = golden / "heads" / "asv"
        self.meta = json.loads((folder / "meta.json").read_text())
        self.io = np.load(folder / "io.npz")
        self.init, self.after = (load_file(folder / name) for name in ("init.safetensors", "after_3_steps.safetensors"))

    @staticmethod
    def reference_name(ours):
        parts = ours.split(".")
        if parts[0] == "tdnn":
            return f"model.framelevel_feature_extractor.module.{parts[1]}.kernel.{parts[2]}"
        renamed = {
            "projector": "connector",
            "utterance1": "model.utterancelevel_feature_extractor.linear1",
            "utterance2": "model.utterancelevel_feature_extractor.linear2",
            "speaker_vectors": "objective.W",
        }
        return ".".join([renamed[parts[0]], *parts[1:]])

    def weight(self, tensors, name, like):
        """A tensor in our layout: the reference unfolds context frames into the input of a linear layer, frame by frame."""
        found = tensors[self.reference_name(name)]
        return found.view(like.shape[0], like.shape[2], like.shape[1]).transpose(1, 2) if like.dim() == 3 else found

    def head(self):
        config = self.meta["model_config"]
        head = XVectorHead(32, config["speakers"], config["input_dim"], config["agg_dim"])
        head.load_state_dict({name: self.weight(self.init, name, value) for name, value in head.state_dict().items()})
        return head

    def features(self, k):
        found = []
        while f"b{k}_feat_{len(found)}" in self.io:
            found.append(torch.from_numpy(self.io[f"b{k}_feat_{len(found)}"]))
        return found

    def batch(self, k):
        features = self.features(k)
        lengths = torch.tensor([len(feature) for feature in features])
        return pad_sequence(features, batch_first=True), lengths, list(torch.from_numpy(self.io[f"b{k}_labels"]))

    def expected(self, k, name):
        return torch.from_numpy(self.io[f"b{k}_{name}"])


@pytest.fixture
def recorded(golden):
    return Recorded(golden)


def test_vectors_losses_and_embeddings_equal_the_reference(recorded):
    head, task = recorded.head(), get_task("asv")
    for k in range(3):
        features, lengths, targets = recorded.batch(k)
        torch.testing.assert_close(head.utterance_vectors(features, lengths), recorded.expected(k, "eval_logits"), atol=5e-5, rtol=0)
        logits, ones = head(features, lengths)
        assert ones.tolist() == [1] * len(targets)
        torch.testing.assert_close(task.loss(logits, ones, targets), recorded.expected(k, "eval_loss"), atol=5e-5, rtol=0)
        batched = head.embed(features, lengths, padded_frames=1)
        torch.testing.assert_close(batched, recorded.expected(k, "test_embedding_batched"), atol=5e-5, rtol=0)
        alone = torch.cat([head.embed(feature[None], torch.tensor([len(feature)])) for feature in recorded.features(k)])
        torch.testing.assert_close(alone, recorded.expected(k, "test_embedding_alone"), atol=5e-5, rtol=0)
        # What evaluation compares does not depend on the batch.
        torch.testing.assert_close(head.embed(features, lengths), alone, atol=1e-5, rtol=0)


def test_three_optimizer_steps_equal_the_reference(recorded):
    head, task = recorded.head(), get_task("asv")
    train_as_recorded(head, task, recorded, recorded.reference_name, torch.optim.AdamW)
    for name, value in head.state_dict().items():
        torch.testing.assert_close(value, recorded.weight(recorded.after, name, value), atol=3e-5, rtol=0)


def test_published_sizes():
    shapes = {name: tuple(value.shape) for name, value in get_task("asv").build_head(768, LabelSet(("a", "b", "c"))).state_dict().items()}
    assert [shapes[f"tdnn.{i}.weight"] for i in range(5)] == [(512, 512, 5), (512, 512, 3), (512, 512, 3), (512, 512, 1), (1500, 512, 1)]
    assert shapes["projector.weight"] == (512, 768)
    assert shapes["utterance1.weight"] == (512, 3000)
    assert shapes["utterance2.weight"] == (512, 512)
    assert shapes["speaker_vectors"] == (512, 3)
    assert LOST_FRAMES == 14
    small = get_task("asv", width=8, pooled_width=12).build_head(16, LabelSet(("a", "b"))).state_dict()
    assert tuple(small["tdnn.4.weight"].shape) == (12, 8, 1)
    assert tuple(small["utterance1.weight"].shape) == (8, 24)
    with pytest.raises(TaskError, match="asv: pooled_width=0 must be a positive integer"):
        get_task("asv", pooled_width=0)


def test_margin_makes_the_true_speaker_harder():
    cosines, speaker = torch.tensor([[0.5, 0.5]]), [torch.tensor(0)]
    assert additive_margin_loss(cosines, speaker, 30.0, 0.0).item() == pytest.approx(np.log(2))
    assert additive_margin_loss(cosines, speaker, 30.0, 0.4).item() == pytest.approx(np.log(1 + np.exp(12)), rel=1e-6)
    task = get_task("asv", margin=0.0, scale=1.0)
    assert task.loss(cosines, torch.ones(1), speaker).item() == pytest.approx(np.log(2))
    for wrong in ({"margin": -1.0}, {"scale": 0.0}, {"min_seconds": -1.0}):
        with pytest.raises(TaskError, match="asv: margin="):
            get_task("asv", **wrong)


def test_utterances_shorter_than_the_context_are_continued_by_their_last_frame():
    torch.manual_seed(0)
    head = XVectorHead(4, 3, 8, 12)
    features = torch.randn(3, 40, 4)
    lengths = torch.tensor([40, 7, 1])
    embedded = head.embed(features, lengths)
    for row, length in ((1, 7), (2, 1)):
        whole = torch.cat([features[row, :length], features[row, length - 1].expand(MIN_FRAMES - length, -1)])[None]
        torch.testing.assert_close(embedded[row : row + 1], head.embed(whole, torch.tensor([MIN_FRAMES])), atol=1e-6, rtol=0)
        torch.testing.assert_close(
            embedded[row], head.embed(features[row : row + 1, :length], lengths[row : row + 1])[0], atol=1e-6, rtol=0
        )
    cosines, _ = head(features[1:, :7], torch.tensor([7, 1]))
    cosines.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_deviation_is_unbiased_and_has_a_gradient_for_constants():
    frames = torch.randn(2, 6, 3, dtype=torch.float64)
    frames[1, :, 1] = 2.0
    frames.requires_grad_()
    pooled = mean_and_deviation(frames, torch.tensor([6, 4]))
    torch.testing.assert_close(pooled[1], torch.cat([frames[1, :4].mean(0), frames[1, :4].std(0)]))
    pooled.sum().backward()
    assert torch.isfinite(frames.grad).all()
    assert not frames.grad[1, 4:].any()


def test_dev_follows_the_accuracy_among_training_speakers():
    task = get_task("asv")
    cut = SimpleNamespace(id="u", supervisions=[SimpleNamespace(speaker="ann", custom=None)])
    labels = LabelSet(("ann", "bob"))
    assert task.target(cut, labels).item() == 0
    counts = task.statistics(torch.tensor([[0.9, 0.1], [0.3, 0.1]]), torch.ones(2), [torch.tensor(0), torch.tensor(1)], labels)
    assert task.scores(counts) == {task.selection_metric.key: 0.5}
    assert task.selection_metric.higher_is_better
    assert task.crop(cut, "train").seconds == 8.0
    assert task.gain == pytest.approx(10 ** (-3 / 20), abs=1e-5)
    with pytest.raises(TaskError, match="u: has no speaker"):
        task.target(SimpleNamespace(id="u", supervisions=[SimpleNamespace(speaker=None, custom=None)]), labels)


def sound(samples, level=0.1):
    return level * torch.tensor([1.0, -1.0]).repeat(samples // 2)


def silence(samples):
    return sound(samples, 0.5 * SILENCE_LEVEL)


def test_silence_is_removed_where_it_lasts_a_tenth_of_a_second():
    long, short = 3200, 800
    kept = without_silence(torch.cat([silence(long), sound(long), silence(short), sound(long), silence(long), sound(long), silence(long)]))
    # Each end of a sound keeps the rest of the window that its level is measured over.
    assert 4 * long - long + short <= len(kept) <= 3 * long + short + 2 * 320
    assert len(without_silence(sound(long))) == long
    assert len(without_silence(torch.cat([sound(long), silence(1200), sound(long)]))) == 2 * long + 1200
    # A click between two silences is no speech.
    assert len(without_silence(torch.cat([silence(long), sound(600), silence(long), sound(long)]))) == pytest.approx(long, abs=1)
    assert len(without_silence(silence(long))) == 0
    # What is silence is decided after the gain.
    faint = sound(long, 1.2 * SILENCE_LEVEL)
    assert len(without_silence(faint)) > 0
    assert len(without_silence(faint, gain=0.7)) == 0
    assert len(without_silence(torch.zeros(0))) == 0
    assert torch.equal(without_silence(torch.cat([torch.zeros(long), sound(long)]))[-long + 1 :], sound(long)[1:])
