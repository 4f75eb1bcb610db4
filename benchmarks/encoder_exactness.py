"""Measure how exactly encoders reproduce recorded values of s3prl, and whether round trips through other formats are lossless.

    python benchmarks/encoder_exactness.py [FOLDER]

FOLDER contains NAME.pt and NAME.outputs.npz for each model, and waveforms.npz, as recorded from s3prl 0.4.18; default:
tests/golden/upstream (see the README there). Prints Markdown.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from speechft.encoders import export_checkpoint, import_checkpoint, load_encoder
from speechft.files.hashes import sha256_file

FORMATS = ("fairseq", "s3prl", "transformers")


def errors(recorded: Path, name: str, directory: Path) -> tuple[float, float]:
    """Return the largest absolute difference of any hidden state, for utterances alone (encoded in one list) and for the padded batch."""
    outputs = np.load(recorded / f"{name}.outputs.npz")
    waveforms = np.load(recorded / "waveforms.npz")
    batch = [torch.from_numpy(waveforms[f"wav_{index}"]) for index in range(4)]
    encoder = load_encoder(directory)
    with torch.inference_mode():
        alone, padded = encoder.encode(batch), encoder.encode(batch, padding="reference")
    differences = [
        float((states[index, : expected.shape[0]] - torch.from_numpy(expected)).abs().max())
        for index in range(4)
        for states, expected in zip(alone.hidden_states, outputs[f"alone_hidden_states_{index}"], strict=True)
    ]
    return max(differences), float((torch.stack(padded.hidden_states) - torch.from_numpy(outputs["hidden_states"])).abs().max())


def round_trip(directory: Path, format: str, folder: Path, config: dict[str, int] | None) -> str:
    """Compare the hashes of the weights (and pre-training-only tensors) before and after export and import."""
    if format == "fairseq" and json.loads((directory / "config.json").read_text())["model_type"] in ("wavlm", "decoar2"):
        return "no such model in fairseq"
    export_checkpoint(directory, folder / format, format=format)
    import_checkpoint(folder / format, folder / f"{format}_back", config=config if format == "s3prl" else None)
    same = True
    for name in ("model.safetensors", "pretraining_only.safetensors"):
        if (directory / name).is_file():
            same &= sha256_file(directory / name) == sha256_file(folder / f"{format}_back" / name)
    return f"{'equal' if same else 'DIFFERENT'} ({sha256_file(folder / f'{format}_back' / 'model.safetensors')[:12]})"


def main() -> None:
    recorded = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "tests/golden/upstream"
    print("| model | alone, max abs error | padded batch, max abs error | " + " | ".join(f"{name} and back" for name in FORMATS) + " |")
    print("|---|---|---|---|---|---|")
    for checkpoint in sorted(recorded.glob("*.pt")):
        name = checkpoint.stem
        config = {"encoder_attention_heads": 4} if name == "decoar2" else None
        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch) / name
            import_checkpoint(checkpoint, directory, config=config)
            alone, padded = errors(recorded, name, directory)
            trips = " | ".join(round_trip(directory, format, Path(scratch), config) for format in FORMATS)
        print(f"| {name} | {alone:.1e} | {padded:.1e} | {trips} |")


if __name__ == "__main__":
    main()
