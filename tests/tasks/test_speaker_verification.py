import numpy as np
import pytest
import torch
from tasks.samples import cut

from speechft.tasks import get_task
from speechft.tasks.asv import SILENCE_LEVEL, without_silence
from speechft.tasks.base import LabelSet
from speechft.tasks.xvector import MIN_FRAMES, XVectorHead, additive_margin_loss, mean_and_deviation


def test_margin_makes_the_true_speaker_harder():
    cosines, speaker = torch.tensor([[0.5, 0.5]]), [torch.tensor(0)]
    assert additive_margin_loss(cosines, speaker, 30.0, 0.4).item() == pytest.approx(np.log(1 + np.exp(12)), rel=1e-6)
    task = get_task("asv", margin=0.0, scale=1.0)
    assert task.loss(cosines, torch.ones(1), speaker).item() == pytest.approx(np.log(2))


def test_utterances_shorter_than_the_context_are_continued_by_their_last_frame():
    torch.manual_seed(0)
    head, features, lengths = XVectorHead(4, 3, 8, 12), torch.randn(3, 40, 4), torch.tensor([40, 7, 1])
    embedded = head.embed(features, lengths)
    for row, length in ((1, 7), (2, 1)):
        own = features[row : row + 1, :length]
        whole = torch.cat([own, own[:, -1:].expand(-1, MIN_FRAMES - length, -1)], dim=1)
        for same, frames in ((whole, MIN_FRAMES), (own, length)):
            torch.testing.assert_close(embedded[row : row + 1], head.embed(same, torch.tensor([frames])), atol=1e-6, rtol=0)
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
    task, labels = get_task("asv"), LabelSet(("ann", "bob"))
    assert task.target(cut(speaker="ann"), labels).item() == 0
    counts = task.statistics(torch.tensor([[0.9, 0.1], [0.3, 0.1]]), torch.ones(2), [torch.tensor(0), torch.tensor(1)], labels)
    assert task.scores(counts) == {task.selection_metric.key: 0.5}
    assert task.selection_metric.higher_is_better
    assert task.crop(cut(speaker="ann"), "train").seconds == 8.0


def sound(samples, level=0.1):
    return level * torch.tensor([1.0, -1.0]).repeat(samples // 2)


def silence(samples):
    return sound(samples, 0.5 * SILENCE_LEVEL)


def test_silence_is_removed_where_it_lasts_a_tenth_of_a_second():
    long, short = 3200, 800

    def kept(*parts, **gain):
        return without_silence(torch.cat(parts), **gain)

    # Each end of a sound keeps the rest of the window that its level is measured over.
    found = kept(silence(long), sound(long), silence(short), sound(long), silence(long), sound(long), silence(long))
    assert 4 * long - long + short <= len(found) <= 3 * long + short + 2 * 320
    assert len(kept(sound(long))) == long
    assert len(kept(sound(long), silence(1200), sound(long))) == 2 * long + 1200
    # A click between two silences is no speech.
    assert len(kept(silence(long), sound(600), silence(long), sound(long))) == pytest.approx(long, abs=1)
    assert len(kept(silence(long))) == len(kept(torch.zeros(0))) == 0
    # What is silence is decided after the gain.
    faint = sound(long, 1.2 * SILENCE_LEVEL)
    assert len(kept(faint)) > len(kept(faint, gain=0.7)) == 0
    assert torch.equal(kept(torch.zeros(long), sound(long))[-long + 1 :], sound(long)[1:])
