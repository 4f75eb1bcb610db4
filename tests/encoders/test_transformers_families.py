"""Families that only transformers has: features, import, export, merge, and what is refused."""

import copy
import logging

import numpy as np
import pytest
import torch
import transformers
from conftest import ROOT
from encoders.tiny import edit_json, equal, imported, refuses, weights
from safetensors.torch import save_file

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, load_encoder, random_encoder, store_encoder
from speechft.encoders.families import FAMILIES, LEARNED_FAMILIES
from speechft.encoders.filterbank import whisper_log_mel
from speechft.encoders.frontends import frontend_of
from speechft.errors import CheckpointError, ConfigError, MergeError
from speechft.merge import merge

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 32}
EXTRACTOR = {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
CONFORMER = {"conv_depthwise_kernel_size": 7, "output_hidden_size": 48, "max_source_positions": 30}
WHISPER = {"d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96, "max_source_positions": 50}
WHISPER |= {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 96, "vocab_size": 32, "decoder_start_token_id": 1}
WHISPER |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
NAMES = {
    "data2vec-audio": ("Data2VecAudio", {**SIZES, **EXTRACTOR, "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7}),
    "unispeech-sat": ("UniSpeechSat", {**SIZES, **EXTRACTOR}),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", {**SIZES, **EXTRACTOR, **CONFORMER}),
    "wav2vec2-bert": ("Wav2Vec2Bert", {**SIZES, **CONFORMER}),
    "whisper": ("Whisper", WHISPER),
}
FOUR = ("ForCTC", "ForSequenceClassification", "ForXVector", "ForAudioFrameClassification")
HEADS = {
    **dict.fromkeys(NAMES, FOUR),
    "unispeech-sat": (*FOUR, "ForPreTraining"),
    "wav2vec2-conformer": (*FOUR, "ForPreTraining"),
    "whisper": ("Model", "ForConditionalGeneration", "ForAudioClassification"),
}
VARIANTS = [
    *((family, {}) for family in NAMES),
    ("unispeech-sat", LARGE),
    ("wav2vec2-conformer", {"feat_extract_norm": "layer", "position_embeddings_type": "rotary"}),
    ("wav2vec2-conformer", {"position_embeddings_type": None}),
    ("wav2vec2-bert", {"position_embeddings_type": "relative"}),
    ("wav2vec2-bert", {"position_embeddings_type": "rotary", "hidden_act": "gelu"}),
    ("whisper", {"num_mel_bins": 128, "scale_embedding": True}),
]


def build(family, head="Model", seed=0, **changes):
    """A model of transformers with random weights; batch normalization has statistics, as after training."""
    name, sizes = NAMES[family]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**{**sizes, **changes})
    model = getattr(transformers, name + head)(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(7)
    return model


def encoder_weights(model):
    if model.config.model_type != "whisper":
        return model.base_model.state_dict()
    inner = model.encoder if hasattr(model, "encoder") else model.model.encoder
    return {f"encoder.{name}": tensor for name, tensor in inner.state_dict().items()}


def own_features(model, waveform, normalize):
    """What transformers' own feature extractor makes of a waveform, and the number of frames that count."""
    config = model.config
    samples = {"raw_speech": waveform.numpy(), "sampling_rate": 16000, "return_tensors": "pt"}
    if config.model_type == "whisper":
        seconds = config.max_source_positions // 50
        extractor = transformers.WhisperFeatureExtractor(config.num_mel_bins, chunk_length=seconds)
        found = extractor(**samples, return_attention_mask=True)
        return {"input_features": found["input_features"]}, -(-int(found["attention_mask"].sum()) // 2)
    if config.model_type == "wav2vec2-bert":
        found = transformers.SeamlessM4TFeatureExtractor()(**samples)
        frames = int(found["attention_mask"].sum())
        features = frontend_of(model).features([waveform], alone=True)
        # Both round a sum over the utterance; a network with random weights would show it.
        torch.testing.assert_close(features[0], found["input_features"][0, :frames], atol=2e-4, rtol=0)
        return {"input_features": features}, frames
    # Normalized with the epsilon of fairseq's F.layer_norm, which the models were trained with; transformers' extractor has 1e-7.
    values = torch.nn.functional.layer_norm(waveform, waveform.shape)[None] if normalize else waveform[None]
    return {"input_values": values}, int(model._get_feat_extract_output_lengths(values.shape[1]))


@pytest.fixture(params=VARIANTS, ids=lambda variant: "-".join([variant[0], *map(str, variant[1].values())]))
def pair(request, tmp_path):
    """A model of transformers, and what import makes of it."""
    family, changes = request.param
    model = build(family, **changes)
    model.save_pretrained(tmp_path / "theirs")
    import_checkpoint(tmp_path / "theirs", tmp_path / "ours")
    return model, load_encoder(tmp_path / "ours")


def test_hidden_states_are_those_of_transformers_whatever_is_in_the_list(pair, waveforms_of):
    model, encoder = pair
    waveforms = waveforms_of([8000, 7300, 2400, 15999, 1000])
    with torch.inference_mode():
        output = encoder.encode(waveforms)
        whole = model.encoder if encoder.family == "whisper" else model
        for index, waveform in enumerate(waveforms):
            inputs, frames = own_features(model, waveform, encoder.normalize)
            theirs = whole(**inputs, output_hidden_states=True)
            # transformers 5 lists the output of pre-norm models before their last norm.
            expected = (*theirs.hidden_states[:-1], theirs.last_hidden_state)
            assert len(expected) == encoder.num_states == len(output.hidden_states)
            assert output.lengths[index] == encoder.frame_count(len(waveform)) == frames
            alone = encoder.encode([waveform]).hidden_states
            for found, single, state in zip(output.hidden_states, alone, expected, strict=True):
                assert not found[index, frames:].any()
                torch.testing.assert_close(single[0], state[0, :frames], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(found[index, :frames], single[0], atol=1e-4, rtol=0)


def test_normalization_follows_what_the_models_were_trained_with(tmp_path):
    expected = {"data2vec-audio": True, "unispeech-sat": False, "wav2vec2-conformer": False, "wav2vec2-bert": False, "whisper": False}
    for family, normalize in expected.items():
        build(family).save_pretrained(tmp_path / family)
        assert load_encoder(tmp_path / family).normalize == normalize
    edit_json(tmp_path / "data2vec-audio/preprocessor_config.json", do_normalize=False)
    assert not load_encoder(tmp_path / "data2vec-audio").normalize


@pytest.mark.parametrize("bins", [80, 128])
def test_energies_of_whisper_are_those_of_its_extractor(bins, waveforms_of):
    waveform = torch.nn.functional.pad(waveforms_of([40000])[0], (0, 8000))
    extractor = transformers.WhisperFeatureExtractor(bins, chunk_length=3)
    expected = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="np")["input_features"]
    np.testing.assert_allclose(whisper_log_mel(waveform[None], bins), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_allclose(whisper_log_mel(waveform[None], bins), expected, atol=1e-5)


def test_few_windows_of_whisper_are_computed_together():
    frontend = frontend_of(build("whisper"))
    assert frontend.groups([16000] * 9 + [1, 16001, 200_000, 5]) == [list(range(8)), [8, 9, 10], [11], [12]]


def test_long_recordings_are_windows_of_whisper(tmp_path, waveforms_of):
    build("whisper").save_pretrained(tmp_path / "theirs")  # windows of one second
    encoder = load_encoder(tmp_path / "theirs")
    long, short = waveforms_of([40000, 3000])
    with torch.inference_mode():
        output = encoder.encode([short, long])
        windows = encoder.encode(list(long.split(16000)))
        many = encoder.encode([short, long] * 4)
    for state, repeated in zip(output.hidden_states, many.hidden_states, strict=True):
        torch.testing.assert_close(repeated, state.repeat(4, 1, 1), atol=1e-5, rtol=0)
    assert output.lengths.tolist() == [10, 125]
    for state, parts in zip(output.hidden_states, windows.hidden_states, strict=True):
        joined = torch.cat([part[:length] for part, length in zip(parts, windows.lengths.tolist(), strict=True)])
        torch.testing.assert_close(state[1], joined, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("family", "head"), [(family, head) for family, heads in HEADS.items() for head in heads])
def test_heads_are_left_out(family, head, tmp_path, caplog):
    model = build(family, head)
    model.save_pretrained(tmp_path / "theirs")
    with caplog.at_level(logging.WARNING):
        assert equal(imported(tmp_path / "theirs", tmp_path / "ours"), encoder_weights(model))
    # What only pre-training uses is kept, and so is no head.
    dropped = head != "ForPreTraining" or family == "unispeech-sat"
    assert sum("the head is left out" in line for line in caplog.messages) == dropped
    load_encoder(tmp_path / "ours")


@pytest.mark.parametrize("family", NAMES)
def test_there_and_back(family, tmp_path):
    """Export, what transformers' AutoModel makes of it, import again."""
    encoder_dir = random_encoder(family, tmp_path / "random", seed=3)
    assert equal(weights(encoder_dir), weights(random_encoder(family, tmp_path / "same", seed=3)))
    export_checkpoint(encoder_dir, tmp_path / "exported", "transformers")
    model = transformers.AutoModel.from_pretrained(tmp_path / "exported")
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(encoder_dir).items())
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "exported")
    mel = {"wav2vec2-bert": "SeamlessM4TFeatureExtractor", "whisper": "WhisperFeatureExtractor"}
    assert type(extractor).__name__ == mel.get(family, "Wav2Vec2FeatureExtractor")
    model.save_pretrained(tmp_path / "theirs")
    assert equal(imported(tmp_path / "theirs", tmp_path / "again"), weights(encoder_dir))
    assert equal(imported(tmp_path / "exported", tmp_path / "and_again"), weights(encoder_dir))
    assert inspect_checkpoint(encoder_dir)["family"] == family
    assert "s3prl" not in (encoder_dir / "README.md").read_text()


@pytest.mark.parametrize("family", NAMES)
def test_merges(family, tmp_path):
    """Of encoder directories and of what transformers wrote; counters of batch normalization, which differ, stay as in the base."""
    base, tuned = build(family), build(family, HEADS[family][0], seed=1)
    for name, buffer in tuned.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.fill_(9)
    base.save_pretrained(tmp_path / "base")
    tuned.save_pretrained(tmp_path / "tuned")
    merge(tmp_path / "base", [tmp_path / "tuned"], tmp_path / "out", alpha=0.25)
    theirs = encoder_weights(tuned)
    merged = weights(tmp_path / "out")
    for name, start in encoder_weights(base).items():
        expected = torch.lerp(start, theirs[name], 0.25) if start.is_floating_point() else start
        torch.testing.assert_close(merged[name], expected)
    load_encoder(tmp_path / "out")
    parts = {"extractor": 0.0} if family != "wav2vec2-bert" else {"projection": 0.0}
    merge(tmp_path / "base", [tmp_path / "tuned"], tmp_path / "parts", alpha=0.5, scale={**parts, "feed_forward": 0.5})
    other = {"encoder_attention_heads": 2} if family == "whisper" else {"num_attention_heads": 2}
    build(family, seed=1, **other).save_pretrained(tmp_path / "other")
    with pytest.raises(MergeError, match="attention_heads is 2, but 4 in the pre-trained model"):
        merge(tmp_path / "base", [tmp_path / "other"], tmp_path / "refused")


@pytest.mark.parametrize("family", LEARNED_FAMILIES)
def test_half_precision(family, tmp_path, waveforms_of):
    """Features in bf16, and of weights that are stored in bf16, are those in float32 but for rounding."""
    encoder, waveforms = load_encoder(random_encoder(family, tmp_path / "encoder")), waveforms_of([6000, 5000])
    store_encoder(tmp_path / "encoder", tmp_path / "half", "bf16")
    with torch.inference_mode():
        exact = encoder.encode(waveforms)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder.encode(waveforms)
        stored = load_encoder(tmp_path / "half").encode(waveforms)
    assert torch.equal(exact.lengths, rounded.lengths)
    for first, *others in zip(exact.hidden_states, rounded.hidden_states, stored.hidden_states, strict=True):
        assert all(0 < (first - other.float()).abs().mean() / first.abs().mean() < 0.05 for other in others)


def test_the_documentation_lists_every_family():
    section = (ROOT / "docs/encoders.md").read_text().partition("## Families")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    exports = {row[0].split("`")[1]: row[5] for row in rows}
    assert exports.keys() == FAMILIES.keys()
    for name in LEARNED_FAMILIES:
        assert ("s3prl" in exports[name]) == (not FAMILIES[name].directory_only)
        assert ("fairseq" in exports[name]) == (name in ("hubert", "wav2vec2"))


@pytest.mark.parametrize("family", NAMES)
def test_training_has_dropout_and_gradients_that_padding_does_not_change(family, tmp_path, waveforms_of):
    sizes = {"dropout": 0.2} if family == "whisper" else {"hidden_dropout": 0.2, "layerdrop": 1.0}
    encoder = load_encoder(random_encoder(family, tmp_path / "encoder", **sizes))
    waveforms = waveforms_of([6000, 5400, 1500])
    buffers = copy.deepcopy(dict(encoder.named_buffers()))
    encoder.train()
    first, second = (encoder.encode(waveforms).hidden_states[-1] for _ in range(2))
    assert not torch.equal(first, second)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in encoder.named_buffers() if name in buffers and buffer.dim() < 2)
    encoder.eval()
    gradients = []
    for batches in ([waveforms], [[waveform] for waveform in waveforms]):
        encoder.zero_grad()
        for batch in batches:
            output = encoder.encode(batch)
            for state, length in zip(output.hidden_states[-1], output.lengths.tolist(), strict=True):
                state[:length].mean(dim=0).square().sum().backward(retain_graph=True)
        gradients.append({name: value.grad.clone() for name, value in encoder.backbone.named_parameters() if value.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1], atol=2e-3, rtol=1e-3)
    frozen = set(encoder.extractor_parameter_names())
    assert bool(frozen) == (family != "wav2vec2-bert")
    assert not frozen & gradients[0].keys()
    unused = ("masked_spec_embed", "pos_conv_embed." if family == "wav2vec2-conformer" else "masked_spec_embed")
    names = {name for name, _ in encoder.backbone.named_parameters() if not any(part in name for part in unused)}
    assert gradients[0].keys() - {"masked_spec_embed"} == names - frozen
    encoder.train_extractor = True
    encoder.encode(waveforms).hidden_states[-1].square().sum().backward()
    learned = {name for name, value in encoder.backbone.named_parameters() if name in frozen and value.grad is not None}
    assert learned == frozen - {"encoder.embed_positions.weight"}


@pytest.mark.parametrize("family", NAMES)
def test_refusals(family, tmp_path):
    encoder_dir = random_encoder(family, tmp_path / "encoder")
    for format in ("fairseq", "s3prl"):
        with pytest.raises(CheckpointError, match=rf"{family} encoders have no {format} layout\. Export with format='transformers'"):
            export_checkpoint(encoder_dir, tmp_path / "out.pt", format)
    with pytest.raises(ConfigError, match=f"not available for {family} encoders"):
        load_encoder(encoder_dir).encode([torch.randn(4000)], padding="reference")
    save_file({"encoder.layers.0.self_attn.k_proj.weight": torch.zeros(2, 2)}, tmp_path / "bare.safetensors")
    assert refuses("are imported from transformers directories", tmp_path / "bare.safetensors", tmp_path / "out", family=family)
    assert refuses("has the format transformers", encoder_dir, tmp_path / "out", format="s3prl")
    depth = FAMILIES[family].depths[0] if FAMILIES[family].depths else "num_hidden_layers"
    edit_json(encoder_dir / "config.json", **{depth: 10**6})
    assert refuses(f"{depth}=1000000 is not from 0 to 100", encoder_dir, tmp_path / "out")


def test_refusals_of_log_mel_encoders(tmp_path):
    for family, key, value in (("whisper", "hop_length", 80), ("whisper", "do_normalize", True), ("wav2vec2-bert", "stride", 1)):
        build(family).save_pretrained(tmp_path / family)
        edit_json(tmp_path / family / "preprocessor_config.json", **{key: value})
        assert refuses(f"{key}.* not supported", tmp_path / family, tmp_path / "out")
        (tmp_path / family / "preprocessor_config.json").unlink()
    assert refuses("normalize. Remove", tmp_path / "whisper", tmp_path / "out", config={"normalize": True})
    with pytest.raises(CheckpointError, match="do not normalize waveforms"):
        random_encoder("whisper", tmp_path / "out", normalize=True)
    build("wav2vec2-bert", add_adapter=True).save_pretrained(tmp_path / "adapter")
    assert refuses(r"\(add_adapter\) are not supported", tmp_path / "adapter", tmp_path / "out")
    build("wav2vec2-bert", feature_projection_input_dim=81).save_pretrained(tmp_path / "odd")
    assert refuses("feature_projection_input_dim is odd", tmp_path / "odd", tmp_path / "out")


def test_hubert_of_two_layers_without_a_norm_before_its_projection(tmp_path, waveforms_of):
    """As DistilHuBERT is in transformers' layout."""
    torch.manual_seed(0)
    config = transformers.HubertConfig(**{**SIZES, **EXTRACTOR, "feat_proj_layer_norm": False})
    model = transformers.HubertModel(config).eval()
    model.save_pretrained(tmp_path / "theirs")
    assert equal(imported(tmp_path / "theirs", tmp_path / "ours"), model.state_dict())
    (waveform,) = waveforms_of([5000])
    with torch.inference_mode():
        expected = model(waveform[None], output_hidden_states=True).hidden_states
        found = load_encoder(tmp_path / "ours").encode([waveform]).hidden_states
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
