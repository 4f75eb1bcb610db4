"""Stage 2 over encoder directories and checkpoints: `merge`, and `merge_family` for several alphas at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechft.errors import MergeError
from speechft.experiment.alphas import alpha_text
from speechft.files.atomic import atomic_directory
from speechft.files.hashes import sha256_file
from speechft.files.outputs import check_folder, write_marker
from speechft.merge.checks import check_alpha, check_configs, check_paths
from speechft.merge.engine import Dtype, Plan, check_compatible, stream_merge
from speechft.merge.hashing import FileHashes
from speechft.merge.inputs import Model, opened
from speechft.merge.merge_files import in_order
from speechft.merge.methods import get_method
from speechft.merge.models import OpenModels
from speechft.merge.parts import Scale

logger = logging.getLogger(__name__)
MADE_BY = "merge"
MASK_EMBEDDING = "masked_spec_embed"
"""What masked frames are replaced by in training; models that were saved without masking lack it."""
Sources = str | Path | Sequence[str | Path]


def merge(
    base_dir: str | Path,
    finetuned_dirs: Sources,
    out_dir: str | Path,
    method: str = "linear",
    alpha: float = 0.25,
    extrapolate: bool = False,
    scale: Scale | None = None,
    dtype: Dtype | None = None,
    **method_parameters: Any,
) -> None:
    """Merge a pre-trained encoder with fine-tuned copies of it into a new encoder directory (Speech-FT, weight-space interpolation).

    Weights are computed in float32, piece by piece. The configuration and the tensors that exist only for pre-training are those of
    `base_dir`. `provenance.json` and the model card say what was merged, by hash. The same inputs always give the same bytes, for
    symmetric methods such as linear in any order of the fine-tuned models.

    Not supported: models of different architectures, and task heads, which an encoder directory does not hold.

    Args:
        base_dir: encoder directory of the pre-trained model, theta0, or a checkpoint of it that `import_checkpoint` reads.
        finetuned_dirs: the same of one or more models that were fine-tuned from it.
        out_dir: directory to write; an older result of `merge` is replaced when the new one is complete.
        method: a key of `speechft.merge.METHODS`.
        alpha: weight of the fine-tuned side: 0 is theta0 and 1 the full step of the method (for linear the fine-tuned model, or the mean
            of several), bit for bit.
        extrapolate: allow alpha outside [0, 1].
        scale: factors of alpha by part of the model, see `speechft.merge.parts`, e.g. {"attention": 1, "rest": 0}.
        dtype: "fp32", "fp16" or "bf16", to store the result in; default: as the base.
        **method_parameters: parameters that the method declares.

    Raises:
        MergeError: a directory is incomplete or damaged, the models differ in family, size or tensors, hold NaN or Inf, two fine-tuned
            models are the same, alpha or a parameter is not allowed, or the output would overwrite something else. Nothing is written.
        CheckpointError: a checkpoint cannot be imported.
    """
    alpha = check_alpha(alpha, extrapolate)
    plan = Plan(get_method(method, method_parameters), (), scale or {}, dtype)
    out = Path(out_dir)
    _merge(Path(base_dir), _paths(finetuned_dirs), out, {alpha: ""}, plan, extrapolate, MADE_BY)


def merge_family(
    base_dir: str | Path,
    finetuned_dirs: Sources,
    out_dir: str | Path,
    alphas: Sequence[float],
    method: str = "linear",
    extrapolate: bool = False,
    scale: Scale | None = None,
    dtype: Dtype | None = None,
    **method_parameters: Any,
) -> dict[float, Path]:
    """Merge as `merge` does, at several alphas in one pass over the inputs: `out_dir` gets one encoder directory for each.

    Args:
        base_dir: see `merge`.
        finetuned_dirs: see `merge`.
        out_dir: directory to write; one that holds nothing but such a family is replaced when the new one is complete.
        alphas: the values of alpha, each once.
        method: see `merge`.
        extrapolate: see `merge`.
        scale: see `merge`.
        dtype: see `merge`.
        **method_parameters: see `merge`.

    Returns:
        alpha -> encoder directory, `out_dir/alpha_0.25` and so on.

    Raises:
        MergeError: see `merge`.
        CheckpointError: see `merge`.
    """
    alphas = [check_alpha(alpha, extrapolate) for alpha in alphas]
    if not alphas or len(set(alphas)) != len(alphas):
        raise MergeError("A family needs at least one alpha, and each once.")
    plan = Plan(get_method(method, method_parameters), (), scale or {}, dtype)
    out, members = Path(out_dir), {alpha: f"alpha_{alpha_text(alpha)}" for alpha in alphas}
    _merge(Path(base_dir), _paths(finetuned_dirs), out, members, plan, extrapolate, f"{MADE_BY} --alpha")
    return {alpha: out / member for alpha, member in members.items()}


def _paths(sources: Sources) -> list[Path]:
    return [Path(path) for path in ([sources] if isinstance(sources, str | Path) else sources)]


def _merge(
    base: Path,
    finetuned: list[Path],
    out: Path,
    members: Mapping[float, str],
    plan: Plan,
    extrapolate: bool,
    made_by: str,
) -> None:
    """`members`: alpha -> directory below `out`."""
    from speechft.encoders.directory.layout import WEIGHTS, copy_sidecars, seal_encoder
    from speechft.encoders.directory.provenance import make_provenance

    check_paths(base, finetuned)
    check_folder(out, made_by, [base, *finetuned, *plan.method.files.values()])
    with opened(base, finetuned, out) as (start, models):
        base_config, *configs = [model.config() for model in (start, *models)]
        check_configs(base_config, {str(model.given): config for model, config in zip(models, configs, strict=True)}, str(base))
        plan = _completed(plan, start, models)
        check_compatible(start.file, [model.file for model in models], plan, list(members), extrapolate)
        _check_finetuned(start, models)
        # One fine-tuned model is hashed while it is merged; the order of several depends on their hashes.
        with FileHashes([model.file.path for model in (*models, start)]) as hashes, atomic_directory(out, made_by) as temporary:
            ordered = in_order([model.file for model in models], hashes, plan.method)
            directories = {alpha: temporary / member for alpha, member in members.items()}
            for directory in directories.values():
                directory.mkdir(exist_ok=True)
            outs = {alpha: directory / WEIGHTS for alpha, directory in directories.items()}
            written = stream_merge(start.file, ordered, outs, plan)
            inputs = _inputs(start, models, hashes) | {role: _hashed(path) for role, path in plan.method.files.items()}
            for alpha, directory in directories.items():
                copy_sidecars(start.directory, directory)
                provenance = {**make_provenance("merge", {}, _recipe(plan, alpha)), "inputs": inputs}
                seal_encoder(directory, provenance, name=members[alpha] or out.name, hashes={WEIGHTS: written[alpha]})
                write_marker(directory, MADE_BY)  # each member may be made again by itself


def _check_finetuned(base: Model, finetuned: Sequence[Model]) -> None:
    """Refuse a copy of the base in whatever layout as a fine-tuned model: merging it would only weaken the others, or do nothing."""
    with OpenModels(base.file, [model.file for model in finetuned]) as models:
        copy = models.copy_of_base()
    if copy is not None:
        raise MergeError(f"{copy.label}: has the same weights as {base.given}, so nothing was fine-tuned there. Give the fine-tuned model.")


def _completed(plan: Plan, base: Model, finetuned: Sequence[Model]) -> Plan:
    """The plan with what the models decide: the dtype of the result, and tensors that stay as in the base."""
    half = [model.stored_in_half() for model in (base, *finetuned)]
    dtype = plan.dtype or (half[0] if all(half) else None)
    keep = list(plan.keep)
    with OpenModels(base.file, [model.file for model in finetuned]) as models:
        readers = (models.base, *models.finetuned)
        lacking = [reader.label for reader in readers if MASK_EMBEDDING not in reader.tensors]
        if lacking and len(lacking) < len(readers):
            logger.warning("%s: %s lacks it; only masking in training uses it, so the one of the base stays", MASK_EMBEDDING, lacking[0])
            keep.append(MASK_EMBEDDING)
    return replace(plan, keep=keep, dtype=dtype)


def _inputs(base: Model, finetuned: Sequence[Model], hashes: FileHashes) -> dict[str, dict[str, str]]:
    """What was merged, by role, after a last look at whether it is what its provenance says."""
    roles = {"base": base, **{f"finetuned_{index}": model for index, model in enumerate(finetuned)}}
    found = {}
    for role, model in roles.items():
        digest = hashes[model.file.path]
        model.check_recorded_hash(digest)
        found[role] = model.provenance(digest)
    return found


def _hashed(path: Path) -> dict[str, str]:
    return {"name": path.resolve().name, "sha256": sha256_file(path)}


def _recipe(plan: Plan, alpha: float) -> dict[str, Any]:
    return {
        "method": plan.method.name,
        "formula": plan.method.summary,
        "reference": plan.method.reference,
        "alpha": alpha,
        **({"scale": dict(plan.scale)} if plan.scale else {}),
        **({"dtype": plan.dtype} if plan.dtype else {}),
        **plan.method.settings(),
    }
