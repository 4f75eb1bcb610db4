"""Whatever stands in the JSON files of an encoder directory, each verb gives a result or one clear error."""

import contextlib
import shutil

import pytest
from encoders.tiny import edit_json

from speechft.encoders import export_checkpoint, import_checkpoint, inspect_checkpoint, store_encoder
from speechft.errors import SpeechFTError

ANYTHING = ("[]", "null", "3", '"x"', "[1]", "{", "[" * 100_000)
BROKEN = {
    "config.json": [
        *({"model_type": family} for family in (["hubert"], "bert")),
        *({"hidden_act": activation} for activation in ("evil", {"a": 1})),
        *({"hidden_size": size} for size in (None, "x")),
        {"dtype": []},
    ],
    "provenance.json": [
        *({"outputs": outputs} for outputs in ([], {"model.safetensors": 3}, {"../secret": "0"})),
        *({"inputs": inputs} for inputs in ([], {"a": {}})),
        *({key: 3} for key in ("recipe", "versions")),
    ],
    "source_config.json": [
        *({key: 3} for key in ("model_cfg", "task_cfg", "dictionaries")),
        *({"sections": sections} for sections in ([1], {"cfg": 3})),
        {"dictionaries": [3]},
        *({"dictionaries": [{"symbols": symbols, "count": count}]} for symbols, count in ((3, None), ([3], None), (["a"], [1, 2]))),
    ],
}
"""File -> keys that are put into it; ANYTHING is put in place of it."""
CASES = [(file, content) for file, changes in BROKEN.items() for content in (*ANYTHING, *changes)]


@pytest.mark.parametrize(("file", "content"), CASES, ids=lambda value: str(value)[:40])
def test_damaged_side_files_are_clear_errors(tiny_hubert, tmp_path, file, content):
    damaged = shutil.copytree(tiny_hubert, tmp_path / "damaged")
    if isinstance(content, dict):
        edit_json(damaged / file, **content)
    else:
        (damaged / file).write_text(content)
    with pytest.raises(SpeechFTError) as refused:
        export_checkpoint(damaged, tmp_path / "x.pt")
    assert file in str(refused.value) or "configuration" in str(refused.value)
    assert not (tmp_path / "x.pt").exists()
    for verb in (
        lambda: import_checkpoint(damaged, tmp_path / "imported"),
        lambda: store_encoder(damaged, tmp_path / "stored"),
        lambda: inspect_checkpoint(damaged),
    ):
        with contextlib.suppress(SpeechFTError):
            verb()
