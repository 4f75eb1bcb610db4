"""Making the encoder directory of FBANK, the baseline of SUPERB."""

from __future__ import annotations

from pathlib import Path

from speechft.encoders.directory.layout import write_encoder
from speechft.encoders.directory.provenance import make_provenance
from speechft.encoders.families import build_config, get_family
from speechft.recipes.pretraining import FbankRecipe


def fbank_encoder(out_dir: str | Path, recipe: FbankRecipe | None = None) -> Path:
    """Write the encoder directory of log-mel filterbanks and return its path.

    Such an encoder is loaded and evaluated like any other; it has one hidden state and nothing that could be fine-tuned, merged or
    exported.

    Args:
        out_dir: the directory; an older one of filterbanks is replaced.
        recipe: settings; default: SUPERB's.

    Raises:
        OutputError: `out_dir` is something else.
    """
    recipe = recipe or FbankRecipe()
    settings = {
        "num_mel_bins": recipe.mel_bins,
        "delta_order": recipe.deltas,
        "normalize_utterances": recipe.normalize,
        "hidden_size": recipe.mel_bins * (1 + recipe.deltas),
        "num_hidden_layers": 0,
    }
    backbone = get_family("fbank").model_type(build_config("fbank", settings))
    write_encoder(out_dir, backbone=backbone, provenance=make_provenance("fbank", {}, recipe.model_dump(mode="json")))
    return Path(out_dir)
