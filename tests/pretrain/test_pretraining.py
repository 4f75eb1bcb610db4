import json
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from finetune.watching import read_log
from pretrain.small_pretraining import RECIPE, interrupted_after

from speechft.corpora import load_split
from speechft.encoders import load_encoder
from speechft.errors import ConfigError, TrainingError
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.files.hashes import sha256_file
from speechft.pretrain import pretrain
from speechft.pretrain.data import choose_utterances
from speechft.recipes.pretraining import PretrainRecipe


@pytest.fixture(scope="module")
def manifests(make_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    return [make_corpus(folder / "a", {"train": 10}, seconds=(0.2, 0.8)), make_corpus(folder / "b", {"train": 6}, seed=1)]


@pytest.fixture(scope="module")
def pretrained(manifests, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain(RECIPE, manifests, folder / "out", folder / "work", keep_work=True)
    return folder


def test_output_is_an_encoder_of_the_recipes_size(pretrained):
    from transformers import AutoModel

    encoder = load_encoder(pretrained / "out")
    assert (encoder.family, encoder.hidden_size, encoder.num_states, encoder.normalize) == ("hubert", 32, 3, False)
    waveform = torch.randn(8000) * 0.1
    model = AutoModel.from_pretrained(pretrained / "out").eval()
    with torch.no_grad():
        ours, theirs = encoder.encode([waveform]).hidden_states[-1], model(waveform[None]).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    provenance = json.loads((pretrained / "out/provenance.json").read_text())
    assert provenance["kind"] == "pretrain"
    assert set(provenance["inputs"]) == {"manifest_0", "manifest_1"}


def test_weights_are_those_of_the_last_fairseq_checkpoint(pretrained):
    state = torch.load(pretrained / "work/checkpoints/checkpoint_last.pt", weights_only=True)
    assert state["optimizer_history"][-1]["num_updates"] == 9
    weights = load_encoder(pretrained / "out").backbone.state_dict()
    assert torch.equal(weights["encoder.layers.1.attention.k_proj.weight"], state["model"]["encoder.layers.1.self_attn.k_proj.weight"])
    assert torch.equal(weights["masked_spec_embed"], state["model"]["mask_emb"])


def test_other_code_in_the_process_may_empty_torchs_allow_list(pretrained, manifests, tmp_path):
    torch.serialization.clear_safe_globals()
    pretrain(RECIPE, manifests, tmp_path / "after")
    assert sha256_file(tmp_path / "after/model.safetensors") == sha256_file(pretrained / "out/model.safetensors")


def test_names_of_the_labels_are_kept_and_the_plug_in_is_not(pretrained):
    source = json.loads((pretrained / "out/source_config.json").read_text())
    assert source["dictionaries"][0]["symbols"] == ["<s>", "<pad>", "</s>", "<unk>", *map(str, range(8))]
    assert (source["model_cfg"]["_name"], source["task_cfg"]["_name"]) == ("hubert", "hubert_pretraining")
    assert not {"start", "fresh_head", "head_only", "freeze_extractor", "seed", "precision", "augmentation"} & set(source["task_cfg"])


def test_data_has_short_recordings_left_out_and_a_label_every_10_ms(pretrained):
    data = pretrained / "work/data"
    sizes = [int(line.split("\t")[1]) for split in ("train", "valid") for line in (data / f"{split}.tsv").read_text().splitlines()[1:]]
    labels = [line.split() for split in ("train", "valid") for line in (data / f"{split}.km").read_text().splitlines()]
    assert min(sizes) >= 4000
    facts = json.loads((pretrained / "out/provenance.json").read_text())["recipe"]["data"]
    assert len(sizes) + facts["too_short"] == 16
    assert facts["too_short"] >= 1
    assert [len(line) for line in labels] == [1 + (size - 400) // 160 for size in sizes]
    assert {int(label) for line in labels for label in line} <= set(range(8))


def test_log_has_losses_in_nats(pretrained):
    rows = read_log(pretrained / "out")
    assert [int(row["update"]) for row in rows] == list(range(1, 10))
    assert [int(row["update"]) for row in rows if row["valid_loss_m"]] == [4, 8, 9]
    # A cosine over 8 clusters and fairseq's 4 special symbols, of which none is favored yet.
    assert float(rows[0]["loss_m"]) == pytest.approx(math.log(12), abs=1.0)
    assert [float(row["lr"]) for row in rows[:4]] == pytest.approx([0, 3.5e-4, 7e-4, 6e-4], rel=1e-3)


def test_interrupted_pretraining_ends_with_the_same_weights(pretrained, manifests, tmp_path):
    with interrupted_after(6):
        pretrain(RECIPE, manifests, tmp_path / "out", tmp_path / "work")
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work/data/train").iterdir()}
    pretrain(RECIPE, manifests, tmp_path / "out", tmp_path / "work", keep_work=True)
    assert made == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work/data/train").iterdir()}
    assert sha256_file(tmp_path / "out/model.safetensors") == sha256_file(pretrained / "out/model.safetensors")
    assert (tmp_path / "out/training.csv").read_text() == (pretrained / "out/training.csv").read_text()


def test_other_recording_conditions_change_what_is_heard_and_not_the_targets(pretrained, manifests, tmp_path):
    recipe = PretrainRecipe(**{**RECIPE.model_dump(), "augmentation": {"mix_prob": 0.5}})
    pretrain(recipe, manifests, tmp_path / "out", tmp_path / "work", keep_work=True)
    for name in ("train.tsv", "train.km", "valid.km"):
        ours, theirs = ((folder / "work/data" / name).read_text().splitlines()[1:] for folder in (tmp_path, pretrained))
        assert ours == theirs
    changed, plain = (read_log(folder / "out")[0]["loss_m"] for folder in (tmp_path, pretrained))
    assert changed != plain
    assert sha256_file(tmp_path / "out/model.safetensors") != sha256_file(pretrained / "out/model.safetensors")
    pretrain(recipe, manifests, tmp_path / "again")
    assert sha256_file(tmp_path / "out/model.safetensors") == sha256_file(tmp_path / "again/model.safetensors")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"max_seconds": 3.0}, ConfigError, "batch_seconds"),
        ({"min_seconds": 2.0, "max_seconds": 2.0}, TrainingError, "two are needed"),
        ({"repeats": (2,)}, ConfigError, "repeats: 1 numbers for 2 corpora"),
    ],
)
def test_contradictions_are_named(changes, error, message, manifests, tmp_path):
    with pytest.raises(error, match=message):
        pretrain(RECIPE.model_copy(update=changes), manifests, tmp_path / "out")


def test_a_corpus_can_count_several_times(manifests, tmp_path):
    recipe = RECIPE.model_copy(update={"repeats": (1, 3), "updates": 1})
    pretrain(recipe, manifests, tmp_path / "out", tmp_path / "work", keep_work=True)
    data = tmp_path / "work/data"
    lines = (data / "train.tsv").read_text().splitlines()[1:]
    labels = (data / "train.km").read_text().splitlines()
    assert len(lines) == len(labels)
    assert [len(line.split()) for line in labels] == [1 + (int(line.split("\t")[1]) - 400) // 160 for line in lines]
    counts = Counter(line.split("\t")[0] for line in lines)
    facts = json.loads((tmp_path / "out/provenance.json").read_text())["recipe"]["data"]
    assert len(counts) == facts["recordings"] == len(list((data / "train").iterdir()))
    assert sorted(set(counts.values())) == [1, 3]
    kept = [cut for folder in manifests for cut in load_split(folder, "train") if cut.duration >= RECIPE.min_seconds]
    utterances = choose_utterances(manifests, recipe)
    assert len(utterances.train) + len(utterances.valid) == len(kept)
    second = {cut.recording.sources[0].source for cut in load_split(manifests[1], "train")}
    expected = [3 if cut.recording.sources[0].source in second else 1 for cut in utterances.train]
    assert utterances.repeats == expected
    # valid recordings stand once and are not learned from
    assert len((data / "valid.tsv").read_text().splitlines()) == 1 + len(utterances.valid)


@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])
def test_bf16_learns_nearly_the_same_and_keeps_fp32_weights(family, manifests, tmp_path):
    small = {key: value for key, value in RECIPE.model_dump().items() if family == "hubert" or key != "clusters"}
    recipe = PretrainRecipe(**{**small, "family": family, "updates": 4})
    losses = {}
    for precision in ("fp32", "bf16"):
        pretrain(recipe.model_copy(update={"precision": precision}), manifests, tmp_path / precision)
        losses[precision] = [float(row["loss_m" if family == "hubert" else "loss"]) for row in read_log(tmp_path / precision)]
        assert {tensor.dtype for tensor in load_encoder(tmp_path / precision).backbone.state_dict().values()} == {torch.float32}
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_scores_of_clusters_are_fairseqs():
    """One product of matrices instead of a copy of all embeddings for each frame."""
    import_fairseq()
    from fairseq.models.hubert.hubert import HubertModel

    from speechft.fairseq_plugin.pretraining import RepeatableHubert

    generator = torch.Generator().manual_seed(0)
    embeddings, frames = torch.randn(12, 16, generator=generator), torch.randn(30, 16, generator=generator)
    target = torch.randint(12, (30,), generator=generator)
    arguments = (frames, embeddings[target], embeddings[:, None].expand(-1, 30, -1))
    settings = SimpleNamespace(logit_temp=0.1)
    torch.testing.assert_close(RepeatableHubert.compute_nce(settings, *arguments), HubertModel.compute_nce(settings, *arguments))
