"""A directory that transformers wrote is the same encoder in every verb as what import makes of it."""

import json

import pytest
import torch
from evaluate.test_cells import without_times
from safetensors.torch import load_file

from speechft.analysis.engine import analyse
from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder, random_encoder, store_encoder
from speechft.evaluate import evaluate, plan_evaluation

RECIPE = {"protocol": "quick", "steps": 4, "batch_size": 4, "eval_every": 2, "seeds": [1], "learning_rates": [0.01]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A model with normalized waveforms and a head as transformers writes it, and imported."""
    import transformers

    folder = tmp_path_factory.mktemp("bare")
    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [32] * 7}
    sizes |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "vocab_size": 9}
    config = transformers.Wav2Vec2Config(**sizes, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True)
    torch.manual_seed(0)
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder / "theirs")
    import_checkpoint(folder / "theirs", folder / "ours")
    return folder / "theirs", folder / "ours"


def test_features_cells_and_analyses(pair, manifests, tmp_path):
    waveform = 0.02 + 0.1 * torch.sin(torch.arange(8000) * 0.05)

    def seen(path):
        encoder, out = load_encoder(path), tmp_path / f"{path.name}.json"
        assert encoder.normalize
        with torch.inference_mode():
            states = torch.stack(encoder.encode([waveform]).hidden_states)
        cell = without_times(evaluate(path, "ks", manifests, out, RECIPE, device="cpu"))
        analysis = analyse(path, path, manifests, tmp_path / f"{path.name}_analysis.json", device="cpu")
        return states.tolist(), cell, plan_evaluation(path, "ks", manifests, RECIPE), analysis

    theirs, ours = map(seen, pair)
    assert theirs == ours


def test_copies_and_exports(pair, tmp_path):
    for path in pair:
        store_encoder(path, tmp_path / f"{path.name}_stored", "bf16")
        export_checkpoint(path, tmp_path / f"{path.name}_exported", format="transformers")
    for kind in ("stored", "exported"):
        first, second = (tmp_path / f"{path.name}_{kind}" for path in pair)
        assert json.loads((first / "config.json").read_text()) == json.loads((second / "config.json").read_text())
        left, right = (load_file(folder / "model.safetensors") for folder in (first, second))
        assert left.keys() == right.keys()
        assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())


@pytest.mark.parametrize(
    ("large", "said", "normalize"),
    [(True, None, True), (True, True, True), (True, False, False), (False, True, False), (False, None, False)],
)
def test_what_decides_whether_waveforms_are_normalized(large, said, normalize, tmp_path):
    sizes = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True} if large else {}
    folder = random_encoder("hubert", tmp_path / "e", **sizes)
    for file in ("provenance.json", "preprocessor_config.json"):
        (folder / file).unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["speechft_normalize"]
    (folder / "config.json").write_text(json.dumps(config))
    if said is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": said}))
    import_checkpoint(folder, tmp_path / "imported")
    assert load_encoder(folder).normalize is load_encoder(tmp_path / "imported").normalize is normalize
