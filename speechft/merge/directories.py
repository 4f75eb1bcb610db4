"""Stage 2 over encoder directories: `merge`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft.encoders.families import nothing_learnt
from speechft.errors import MergeError, SpeechFTError, missing_file
from speechft.files import atomic_directory, read_json
from speechft.merge.checks import check_alpha, check_configs, check_paths, distinct_hashes
from speechft.merge.merge_files import check_compatible, stream_merge
from speechft.merge.methods import get_method


def merge(
    base_dir: str | Path,
    finetuned_dirs: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    method: str = "linear",
    alpha: float = 0.25,
    extrapolate: bool = False,
    **method_parameters: Any,
) -> None:
    """Merge a pre-trained encoder with fine-tuned copies of it into a new encoder directory (Speech-FT, weight-space interpolation).

    Weights are computed in float32, tensor by tensor. The configuration and the tensors that exist only for pre-training are those of
    `base_dir`. `provenance.json` and the model card say what was merged, by hash. The same inputs always give the same bytes, for
    symmetric methods such as linear in any order of the fine-tuned models.

    Not supported: models of different architectures, and task heads, which an encoder directory does not hold.

    Args:
        base_dir: encoder directory of the pre-trained model, theta0.
        finetuned_dirs: encoder directories of one or more models that were fine-tuned from it.
        out_dir: directory to write; an encoder directory that is there already is replaced when the new one is complete.
        method: a key of `speechft.merge.METHODS`.
        alpha: weight of the fine-tuned side: 0 is theta0 and 1 the fine-tuned model (or their mean), bit for bit.
        extrapolate: allow alpha outside [0, 1].
        **method_parameters: parameters that the method declares.

    Raises:
        MergeError: a directory is incomplete or damaged, the models differ in family, size or tensors, hold NaN or Inf, two fine-tuned
            models are the same, alpha or a parameter is not allowed, or the output would overwrite something else. Nothing is written.
    """
    from speechft.encoders.directory import CONFIG, WEIGHTS, copy_sidecars, seal_encoder
    from speechft.encoders.provenance import make_provenance

    alpha = check_alpha(alpha, extrapolate)
    chosen = get_method(method, method_parameters)
    given = [finetuned_dirs] if isinstance(finetuned_dirs, str | Path) else finetuned_dirs
    base, finetuned, out = Path(base_dir), [Path(path) for path in given], Path(out_dir)
    check_paths(base, finetuned, out)
    _check_replaceable(out)
    base_config, *configs = [_config(model / CONFIG) for model in (base, *finetuned)]
    check_configs(base_config, {str(model): config for model, config in zip(finetuned, configs, strict=True)}, str(base))
    check_compatible(base / WEIGHTS, [model / WEIGHTS for model in finetuned])

    roles = {"base": base, **{f"finetuned_{index}": model for index, model in enumerate(finetuned)}}
    recipe = {
        "method": chosen.name,
        "formula": chosen.summary,
        "reference": chosen.reference,
        "alpha": alpha,
        **chosen.parameters.model_dump(mode="json"),
    }
    provenance = make_provenance("merge", roles, recipe)
    hashes = [provenance["inputs"][role]["sha256"] for role in roles]
    for model, digest in zip(roles.values(), hashes, strict=True):
        _check_recorded_hash(model, digest)
    distinct_hashes([model / WEIGHTS for model in finetuned], hashes[1:])

    with atomic_directory(out) as temporary:
        sources = {digest: model / WEIGHTS for digest, model in zip(hashes[1:], finetuned, strict=True)}
        stream_merge(base / WEIGHTS, sources, temporary / WEIGHTS, chosen, alpha)
        copy_sidecars(base, temporary)
        seal_encoder(temporary, provenance, name=out.name)


def _config(path: Path) -> dict[str, Any]:
    if not path.parent.is_dir():
        raise MergeError(f"{path.parent}: no such directory. Give an encoder directory; `speechft import` makes one of a checkpoint.")
    if not path.is_file():
        raise MergeError(missing_file(path, "as the model's configuration", "Give an encoder directory; `speechft import` makes one."))
    try:
        config = read_json(path)
    except SpeechFTError as error:
        raise MergeError(str(error)) from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise MergeError(f"{path}: names no model_type, so the family of the model is unknown. Import the checkpoint again.")
    if (refusal := nothing_learnt(config["model_type"], path.parent, "merge")) is not None:
        raise MergeError(refusal)
    return config


def _check_recorded_hash(model: Path, digest: str) -> None:
    """Refuse weights that are not the ones that `provenance.json` was written for; directories from elsewhere have none."""
    from speechft.encoders.directory import PROVENANCE, WEIGHTS

    path = model / PROVENANCE
    if not path.exists():
        return
    try:
        recorded = read_json(path)["outputs"][WEIGHTS]
    except (SpeechFTError, KeyError, TypeError) as error:
        raise MergeError(f"{path}: records no hash of the weights ({error}). Make the model again.") from None
    if recorded != digest:
        raise MergeError(f"{model / WEIGHTS}: is not the file that {PROVENANCE} describes: damaged or replaced. Make the model again.")


def _check_replaceable(out: Path) -> None:
    """Refuse to replace anything but an encoder directory, or what is left of one."""
    from speechft.encoders.directory import CONFIG, PREPROCESSOR, PRETRAINING_ONLY, PROVENANCE, SOURCE_CONFIG, WEIGHTS

    own = {CONFIG, PREPROCESSOR, PRETRAINING_ONLY, PROVENANCE, SOURCE_CONFIG, WEIGHTS, "README.md"}
    if out.exists() and not out.is_dir():
        raise MergeError(f"{out} is a file. Choose another output directory.")
    foreign = sorted(path.name for path in out.iterdir() if path.name not in own) if out.exists() else []
    if foreign:
        raise MergeError(
            f"{out} holds {', '.join(foreign[:3])}{' and more' if len(foreign) > 3 else ''}, so it is no encoder directory and is not "
            "replaced. Choose another output directory."
        )
