"""A pre-training of seconds, shared by the tests of pre-training, and its interruption."""

import contextlib

import pytest

from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.recipes.pretraining import PretrainRecipe

ARCHITECTURE = {
    "extractor": [{"channels": 16, "kernel": k, "stride": s} for k, s in [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]],
    "layers": 2,
    "hidden_size": 32,
    "ffn_size": 64,
    "attention_heads": 2,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "final_dim": 16,
}
BATCHES = {"batch_seconds": 2.0, "max_seconds": 0.5, "valid_fraction": 0.15, "mask_length": 4}
RECIPE = PretrainRecipe(architecture=ARCHITECTURE, clusters=8, updates=9, warmup_updates=2, validate_every=4, **BATCHES)


@contextlib.contextmanager
def interrupted_after(updates, task="RepeatableHubertTask"):
    """Inside the block a pre-training dies in the update after so many."""
    import_fairseq()
    from speechft.fairseq_plugin import pretraining

    plugin = getattr(pretraining, task)
    original = plugin.train_step

    def interrupt(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        if update_num == updates:
            raise KeyboardInterrupt
        return original(self, sample, model, criterion, optimizer, update_num, ignore_grad)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(plugin, "train_step", interrupt)
        yield
