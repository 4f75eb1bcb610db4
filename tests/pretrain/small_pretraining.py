"""A pre-training of seconds, shared by the tests of pre-training."""

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
