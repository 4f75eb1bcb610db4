"""One model, evaluated as transformers wrote it, as an encoder directory, and through a class in the manner of s3prl: equal scores.

The class and the commands are those of docs/encoders.md.
"""

import re

import pytest
import torch
from conftest import ROOT
from evaluate.corpora import QUICK

from speechft.encoders import import_checkpoint
from speechft.evaluate import evaluate

EXPERT = re.search(r"```python\n(# expert\.py\n.*?)```", (ROOT / "docs/encoders.md").read_text(), re.S)[1]
RATES = {"learning_rates": [0.01, 0.001]}
"""0.1 makes another score of the rounding of batches."""


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """First argument and options of `evaluate`, by the form of the model."""
    import transformers

    folder = tmp_path_factory.mktemp("forms")
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [32] * 7}
    config = transformers.HubertConfig(**sizes, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
    torch.manual_seed(0)
    transformers.HubertModel(config).save_pretrained(folder / "theirs")
    import_checkpoint(folder / "theirs", folder / "ours")
    (folder / "expert.py").write_text(EXPERT)
    expert = f"{folder / 'expert.py'}:UpstreamExpert"
    return {"transformers": (folder / "theirs", {}), "ours": (folder / "ours", {}), "s3prl": (expert, {"ckpt": str(folder / "theirs")})}


@pytest.mark.parametrize("task", ["pr", "qbe"])
def test_scores_are_equal(task, forms, corpus_of, tmp_path):
    recipe = {**QUICK[task], **({} if task == "qbe" else RATES)}
    cells = {
        form: evaluate(model, task, corpus_of(task), tmp_path / f"{form}.json", recipe, encoder_options=options, device="cpu")
        for form, (model, options) in forms.items()
    }
    assert cells["transformers"]["values"] == cells["ours"]["values"] == cells["s3prl"]["values"]
    assert [trial["dev"] for trial in cells["transformers"]["trials"]] == [trial["dev"] for trial in cells["ours"]["trials"]]
    assert cells["s3prl"]["module"]["class_name"] == "UpstreamExpert"
