import pytest
import torch

from speechft.tasks.specaug import SpecAugment, random_masks


def augmented(features, lengths, seed=0, **options):
    torch.manual_seed(seed)
    return SpecAugment(**options).train()(features, torch.tensor(lengths))


NO_WARP = {"time_warp": 10**6}
NO_MASKS = {"frequency_masks": 1, "frequency_width": 1, "time_masks": 1, "time_width": 1}


def test_defaults_are_the_recipe():
    sizes = {"time_warp": 5, "frequency_masks": 4, "frequency_width": 50, "time_masks": 2, "time_width": 40}
    assert sizes.items() <= vars(SpecAugment()).items()


def test_nothing_happens_in_evaluation_mode():
    features = torch.randn(2, 30, 8)
    state = torch.get_rng_state()
    assert SpecAugment().eval()(features, torch.tensor([30, 20])) is features
    assert torch.equal(torch.get_rng_state(), state)


def test_augmentation_depends_on_the_global_seed_and_takes_one_number_of_it():
    features = torch.randn(2, 300, 80)
    first, again, other = (augmented(features, [300, 200], seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    following = []
    for options in ({}, {"frequency_masks": 1}):
        augmented(features, [300, 200], 0, **options)
        following.append(torch.rand(3))
    assert torch.equal(*following)


def test_masks_are_rectangles_of_zeros_of_each_utterance():
    found = augmented(torch.ones(3, 200, 120), [200, 200, 200], **NO_WARP)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    for utterance in found:
        rows, columns = (utterance == 0).all(dim=1), (utterance == 0).all(dim=0)
        assert torch.equal(utterance == 0, rows[:, None] | columns[None, :])
        # At most two runs of at most 39 frames and four of at most 49 dimensions.
        for masked, runs, width in ((rows, 2, 39), (columns, 4, 49)):
            assert int(masked.sum()) <= runs * width
            assert int((masked.int().diff() == 1).sum() + masked[0]) <= runs
    assert not torch.equal(found[0], found[1])


def test_widths_and_starts_of_masks():
    generator = torch.Generator().manual_seed(0)
    lengths, edges = set(), set()
    for _ in range(3000):
        mask = random_masks(1, 20, 1, 6, generator)[0]
        lengths.add(int(mask.sum()))
        edges.update(mask.nonzero().flatten().tolist())
    assert lengths == set(range(6))
    # A mask of width w starts before 20 - w: the last place stays free, as in the reference.
    assert edges == set(range(19))
    # Wider than there is room: it starts at 0.
    wide = [random_masks(1, 3, 1, 50, generator)[0] for _ in range(200)]
    assert all(bool(mask[0]) or not mask.any() or int(mask.sum()) < 3 for mask in wide)
    # Starts leave room for the widest mask of the batch.
    assert not any(random_masks(4, 50, 2, 40, generator)[:, -1].any() for _ in range(200))


def test_warping_moves_one_point_of_the_utterance():
    time = torch.arange(60.0)[None, :, None].repeat(2, 1, 3)
    time[1, 40:] = -7.0
    moved = set()
    for seed in range(300):
        warped = augmented(time, [60, 40], seed, **NO_MASKS)
        assert warped.shape == time.shape
        # What lies behind an utterance stays there.
        assert torch.equal(warped[1, 40:], time[1, 40:])
        # Time goes on at the ends; at most, six frames become one, which is then their middle.
        assert warped[0, 0, 0] == pytest.approx(0.0, abs=2.6)
        assert warped[0, -1, 0] == pytest.approx(59.0, abs=2.6)
        shift = (warped[0, :, 0] - time[0, :, 0])[5:-5]
        moved.add(round(float(shift[shift.abs().argmax()])))
    # A point moves by -4 to +5 frames; contents move the other way, and a little less where the resized sides meet.
    assert min(moved) in (-5, -4)
    assert max(moved) in (3, 4)
    assert 0 in moved


def test_short_utterances_are_not_warped():
    features = torch.randn(2, 11, 4)
    changed = {seed: augmented(features, [10, 11], seed, **NO_MASKS) for seed in range(20)}
    assert all(torch.equal(found[0], features[0]) for found in changed.values())
    assert any(not torch.equal(found[1], features[1]) for found in changed.values())


def test_warping_comes_before_masking():
    """Masked frames are exactly 0, not the overshoot of a cubic interpolation."""
    features = torch.full((1, 200, 80), 5.0)
    found = augmented(features, [200])
    masked = found == 0
    assert masked.any()
    assert torch.allclose(found[~masked], torch.tensor(5.0), atol=1e-4)


def test_gradients_reach_the_features():
    features = torch.randn(1, 40, 6, requires_grad=True)
    augmented(features, [40], frequency_masks=1, frequency_width=1, time_width=5).sum().backward()
    assert features.grad.abs().sum() > 0
