"""RegMean against its definition: the weights whose outputs differ least from those of each model on its own inputs."""

import itertools

import pytest
import soundfile
import torch
from conftest import ROOT
from encoders.tiny import WEIGHTS, files, weights
from transformers import AutoModel
from typer.testing import CliRunner

from speechft.cli import app
from speechft.corpora import load_audio, load_split, prepare_corpus
from speechft.encoders import random_encoder
from speechft.errors import CorpusError, MergeError, SpeechFTError
from speechft.merge import get_method, merge, merge_files
from speechft.merge.methods.linear_inputs import cuts_of, second_moments
from speechft.merge.tensors import TensorReader
from speechft.recipes.corpora import CorpusRecipe

DIGITS = ROOT / "tests/recordings/digits"
LAYERS = [
    "feature_projection.projection",
    "encoder.layers.0.attention.q_proj",
    "encoder.layers.1.attention.out_proj",
    "encoder.layers.1.feed_forward.intermediate_dense",
    "encoder.layers.0.feed_forward.output_dense",
]


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Two folders of recordings, of other speakers each."""
    folder = tmp_path_factory.mktemp("voices")
    for speaker in ("george", "jackson"):
        (folder / speaker / "deep").mkdir(parents=True)
        for path in sorted(DIGITS.glob(f"*_{speaker}_*")):
            (folder / speaker / "deep" / path.name).symlink_to(path)
    return folder


def inputs_of(model_dir, cuts):
    """Inputs (frames, width) of each of LAYERS, taken from transformers' model."""
    model, found = AutoModel.from_pretrained(model_dir).eval(), {name: [] for name in LAYERS}
    for name in LAYERS:
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: found[name].append(args[0][0]))
    with torch.no_grad():
        for cut in cuts:
            model(load_audio(cut)[None])
    return {name: torch.cat(parts).double() for name, parts in found.items()}


@pytest.mark.parametrize("off_diagonal", [1.0, 0.9, 0.0])
def test_linear_layers_answer_as_the_models_do(encoders, voices, tmp_path, off_diagonal):
    folders = [voices / "george", voices / "jackson"]
    models = [encoders / "first", encoders / "second"]
    options = {"recordings": list(map(str, folders)), "utterances": 15, "off_diagonal": off_diagonal}
    merge(encoders / "base", models, tmp_path / "out", method="regmean", alpha=1.0, **options)
    found, tuned = weights(tmp_path / "out"), [weights(model) for model in models]
    inputs = [inputs_of(model, cuts_of(folder, "train", 15)) for model, folder in zip(models, folders, strict=True)]
    for name in LAYERS:
        # Relative to the mean, which stays where no input goes. Each model's rows are divided by the root of their number.
        mean = sum(model[f"{name}.weight"].double() for model in tuned) / 2
        left, right = [], []
        for model, seen in zip(tuned, inputs, strict=True):
            rows = seen[name] / len(seen[name]) ** 0.5
            rows = torch.cat([off_diagonal**0.5 * rows, (1 - off_diagonal) ** 0.5 * rows.norm(dim=0).diag()])
            left.append(rows)
            right.append(rows @ (model[f"{name}.weight"].double() - mean).T)
        ridge = (1e-9 * sum(rows.square().sum() for rows in left) / mean.shape[1]) ** 0.5 * torch.eye(mean.shape[1]).double()
        left, right = torch.cat([*left, ridge]), torch.cat([*right, torch.zeros_like(mean).T])
        expected = mean + torch.linalg.lstsq(left, right).solution.T
        torch.testing.assert_close(found[f"{name}.weight"].double(), expected, rtol=1e-3, atol=1e-4)
    others = [name for name in found if "conv" in name or name.endswith("bias")]
    mean = {name: (tuned[0][name] + tuned[1][name]) / 2 for name in others}
    torch.testing.assert_close({name: found[name] for name in others}, mean)


def test_alpha_zero_and_the_order_of_models(encoders, voices, tmp_path):
    pair, options = [encoders / "first", encoders / "second"], {"method": "regmean", "recordings": voices, "utterances": 3}
    merge(encoders / "base", pair, tmp_path / "zero", alpha=0.0, **options)
    assert files(tmp_path / "zero")[WEIGHTS] == files(encoders / "base")[WEIGHTS]
    one, other = (tmp_path / name for name in ("one", "other"))
    for out, models in ((one, pair), (other, pair[::-1])):
        merge(encoders / "base", models, out, alpha=0.5, **options)
    assert files(one)[WEIGHTS] == files(other)[WEIGHTS]


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm", "decoar2"])
def test_every_linear_layer_of_every_family_is_heard(family, tmp_path):
    reader = TensorReader(random_encoder(family, tmp_path / family) / WEIGHTS)
    matrices = {name for name, info in reader.tensors.items() if len(info.shape) == 2 and "rel_attn_embed" not in name}
    moments = second_moments(reader, cuts_of(DIGITS, "train", 2))
    assert moments.keys() == matrices
    assert all(moments[name].shape == (reader.tensors[name].shape[1],) * 2 for name in matrices)


def test_manifests_on_the_command_line(encoders, tmp_path):
    prepare_corpus(CorpusRecipe(path=ROOT / "tests/recordings/digits.csv"), tmp_path / "manifests")
    assert [cut.id for cut in cuts_of(tmp_path / "manifests", "test", 10**6)] == [
        cut.id for cut in load_split(tmp_path / "manifests", "test")
    ]
    command = ["merge", *(str(encoders / name) for name in ("base", "first", "second")), "--method", "regmean", "-o", str(tmp_path / "out")]
    settings = [f"recordings={tmp_path / 'manifests'}", "utterances=2", "split=test"]
    done = CliRunner().invoke(app, [*command, *itertools.chain(*(("--set", setting) for setting in settings))])
    assert done.exit_code == 0, done.output
    assert "utterances: 2" in (tmp_path / "out/README.md").read_text()


def test_mistakes(encoders, voices, tmp_path):
    base, first, second = (encoders / name for name in ("base", "first", "second"))
    (tmp_path / "empty").mkdir()
    for recordings, expected in [
        ([], "recordings: Tuple should have at least 1 item"),
        ([voices, voices, voices], "recordings has 3 folders for 2 fine-tuned models. Give one, or one for each"),
        (tmp_path / "absent", "absent: no such file, needed as recordings. Give a folder of manifests"),
        (tmp_path / "empty", "empty: contains no manifests and no audio files"),
    ]:
        with pytest.raises(SpeechFTError, match=expected):
            merge(base, [first, second], tmp_path / "out", method="regmean", recordings=recordings)
    with pytest.raises(MergeError, match="recordings: is missing"):
        get_method("regmean")
    (tmp_path / "empty/noise.wav").write_bytes(b"no audio")
    with pytest.raises(MergeError, match=r"noise\.wav: cannot be decoded"):
        merge(base, [first, second], tmp_path / "out", method="regmean", recordings=tmp_path / "empty")
    soundfile.write(tmp_path / "empty/noise.wav", torch.zeros(300).numpy(), 16000)
    with pytest.raises(SpeechFTError, match=r"noise\.wav: has 300 samples at 16 kHz .* the encoder needs 400"):
        merge(base, [first, second], tmp_path / "out", method="regmean", recordings=tmp_path / "empty")
    prepare_corpus(CorpusRecipe(path=ROOT / "tests/recordings/digits.csv"), tmp_path / "manifests")
    with pytest.raises(CorpusError, match="split 'dev'"):
        merge(base, [first, second], tmp_path / "out", method="regmean", recordings=tmp_path / "manifests", split="dev")
    bare = [tmp_path / str(index) for index in range(3)]
    for file, model in zip(bare, (base, first, second), strict=True):
        file.write_bytes((model / WEIGHTS).read_bytes())
    with pytest.raises(MergeError, match="regmean runs the models, so it needs encoder directories"):
        merge_files(bare[0], bare[1:], tmp_path / "out", get_method("regmean", {"recordings": voices}))
    assert not (tmp_path / "out").exists()
