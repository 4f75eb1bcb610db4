"""Whatever stands in the JSON files of an encoder directory, each verb gives a result or one clear error."""

import contextlib
import json
import shutil

import pytest

from speechft.encoders.checkpoints.exporting import export_checkpoint
from speechft.encoders.checkpoints.importing import import_checkpoint
from speechft.encoders.checkpoints.inspecting import inspect_checkpoint
from speechft.encoders.checkpoints.storing import store_encoder
from speechft.encoders.directory.random_encoders import random_encoder
from speechft.errors import SpeechFTError

DEEP = "[" * 100_000
ANYTHING = ("[]", "null", "3", '"x"', "[1]", "{", DEEP)
# File -> what is put in place of it, and keys that are put into it.
BROKEN = {
    "config.json": (
        ANYTHING,
        [{"model_type": ["hubert"]}, {"hidden_act": "evil"}, {"hidden_act": {"a": 1}}, {"hidden_size": None}, {"dtype": []}],
    ),
    "provenance.json": (
        ANYTHING,
        [{"outputs": []}, {"outputs": {"model.safetensors": 3}}, {"inputs": []}, {"inputs": {"a": {}}}, {"recipe": 3}, {"versions": 3}],
    ),
    "source_config.json": (
        ANYTHING,
        [{"model_cfg": 3}, {"task_cfg": "x"}, {"sections": [1]}, {"sections": {"cfg": 3}}, {"dictionaries": 3}, {"dictionaries": [3]}]
        + [{"dictionaries": [{"symbols": symbols, "count": count}]} for symbols, count in ((3, None), ([3], None), (["a"], [1, 2]))],
    ),
}
CASES = [(file, content) for file, (contents, _) in BROKEN.items() for content in contents] + [
    (file, keys) for file, (_, parts) in BROKEN.items() for keys in parts
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return random_encoder("hubert", tmp_path_factory.mktemp("side") / "encoder", seed=0)


@pytest.mark.parametrize(("file", "content"), CASES, ids=lambda value: str(value)[:40])
def test_damaged_side_files_are_clear_errors(encoder, tmp_path, file, content):
    damaged = shutil.copytree(encoder, tmp_path / "damaged")
    text = json.dumps({**json.loads((encoder / file).read_text()), **content}) if isinstance(content, dict) else content
    (damaged / file).write_text(text)
    with pytest.raises(SpeechFTError) as refused:
        export_checkpoint(damaged, tmp_path / "x.pt")
    assert file in str(refused.value) or "configuration" in str(refused.value)
    assert not (tmp_path / "x.pt").exists()
    verbs = (
        lambda: import_checkpoint(damaged, tmp_path / "imported"),
        lambda: store_encoder(damaged, tmp_path / "stored"),
        lambda: inspect_checkpoint(damaged),
    )
    for verb in verbs:
        with contextlib.suppress(SpeechFTError):
            verb()
