"""Stage 2 for encoder directories and checkpoints: `merge`, and `merge_family` for several alphas at once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechft.downloads.hub import local_path
from speechft.errors import MergeError
from speechft.files.atomic import atomic_directory, scratch_directory
from speechft.files.hashes import sha256_file
from speechft.files.outputs import check_folder, write_marker
from speechft.files.structured import read_json
from speechft.merge.checks import check_alpha, check_configs, check_paths
from speechft.merge.engine import Dtype, Plan, check_compatible, put_in_order, stream_merge
from speechft.merge.methods import get_method
from speechft.merge.models import Models
from speechft.merge.parts import Scale
from speechft.merge.tensors import TensorReader
from speechft.plugins import files_of
from speechft.recipes.alphas import alpha_text
from speechft.recipes.modules import refuse_class

logger = logging.getLogger(__name__)
MASK_EMBEDDING = "masked_spec_embed"
"""Embedding of masked frames in training, absent from models saved without masking."""
COUNTERS = "*.num_batches_tracked"
"""Counters of batch normalization, integers that do not affect the output."""
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

    Weights are computed in float32, piece by piece. Configuration and pre-training-only tensors are those of `base_dir`. `provenance.json`
    and the model card list the hashes of the merged models. Equal inputs give equal bytes, for symmetric methods such as linear in any
    order of the fine-tuned models.
    Not supported: models of different architectures, and task heads, which encoder directories do not contain.

    Args:
        base_dir: encoder directory of the pre-trained model, theta0, or anything that `import_checkpoint` reads.
        finetuned_dirs: one or more models fine-tuned from it, in the same forms.
        out_dir: directory to write; an older result of `merge` is replaced when the new one is complete.
        method: a key of `speechft.merge.METHODS`.
        alpha: weight of the fine-tuned side: 0 is theta0, and 1 the full step of the method (for linear the fine-tuned model, or the mean
            of several), bit for bit.
        extrapolate: allow alpha outside [0, 1].
        scale: factors of alpha by part of the model, see `speechft.merge.parts`; for example {"attention": 1, "rest": 0}.
        dtype: dtype of the result, "fp32", "fp16" or "bf16"; default: that of the base.
        **method_parameters: parameters of the method.

    Raises:
        MergeError: the models differ in family, size or tensors, contain NaN or Inf, two fine-tuned models are equal, or alpha or a
            parameter is not allowed. Nothing is written.
        CheckpointError: a directory is incomplete or damaged, or a checkpoint cannot be imported.
        OutputError: the output would overwrite something else.
    """
    plan = Plan(get_method(method, method_parameters), scale or {}, dtype, extrapolate)
    _merge(local_path(base_dir), _paths(finetuned_dirs), Path(out_dir), {check_alpha(alpha, extrapolate): ""}, plan, "merge")


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
    """Merge at several alphas in one pass over the inputs, into one encoder directory per alpha below `out_dir`.

    Arguments and errors as for `merge`; alphas must be distinct. A directory that contains only such a family is replaced.

    Returns:
        alpha -> encoder directory, `out_dir/alpha_0.25` and so on.
    """
    alphas = [check_alpha(alpha, extrapolate) for alpha in alphas]
    if not alphas or len(set(alphas)) != len(alphas):
        raise MergeError("A family needs at least one alpha, without repetitions.")
    plan = Plan(get_method(method, method_parameters), scale or {}, dtype, extrapolate)
    out, members = Path(out_dir), {alpha: f"alpha_{alpha_text(alpha)}" for alpha in alphas}
    _merge(local_path(base_dir), _paths(finetuned_dirs), out, members, plan, "merge --alpha")
    return {alpha: out / member for alpha, member in members.items()}


def _paths(sources: Sources) -> list[Path]:
    refuse_class(sources)
    return [local_path(path) for path in ([sources] if isinstance(sources, str | Path) else sources)]


@dataclass(frozen=True)
class Model:
    """A model to merge: the path given by the user, and its encoder directory, which may be a temporary import."""

    given: Path
    directory: Path

    def reader(self) -> TensorReader:
        """Open the weights; messages name the path given by the user."""
        return TensorReader(self.directory / "model.safetensors", None if self.given == self.directory else str(self.given))

    def config(self) -> dict[str, Any]:
        """Read the configuration; raise MergeError or CheckpointError if it is missing, damaged, or of an encoder that cannot be merged."""
        from speechft.encoders.directory.layout import read_config_values
        from speechft.encoders.families import check_learned, check_supported

        if not self.directory.is_dir():
            raise MergeError(f"{self.directory}: no such directory or file. Give an encoder directory or a checkpoint.")
        config = read_config_values(self.directory)
        check_learned(config["model_type"], self.directory, "merge")
        check_supported(config, self.given)
        return config

    def stored_in(self) -> Dtype | None:
        """Return the half precision of the given model if importing has widened it."""
        if self.given == self.directory:
            return None
        dtype: Dtype | None = read_json(self.directory / "provenance.json")["recipe"].get("dtype")
        return dtype

    def provenance(self, digest: str) -> dict[str, str]:
        """Return name and hashes for the provenance: of the checkpoint, if any, and of the merged weights."""
        from speechft.encoders.directory.provenance import input_name

        name = input_name(self.given)
        if self.given.is_file():
            return {"name": name, "sha256": sha256_file(self.given), "weights_sha256": digest}
        return {"name": name, "sha256": digest}


@contextmanager
def _opened(base: Path, finetuned: Sequence[Path], out: Path) -> Iterator[list[Model]]:
    """Yield the models as encoder directories, the base first; checkpoints are imported next to `out` for the duration of the block.

    A fine-tuned checkpoint is read as a model of the base's family. Settings missing in its layout, such as the number of attention heads
    in an s3prl run, are taken from the base.
    """
    from speechft.encoders.checkpoints.importing import import_checkpoint
    from speechft.encoders.checkpoints.on_the_fly import needs_import

    foreign = {path for path in (base, *finetuned) if path.is_file() or needs_import(path)}
    with scratch_directory(out) as scratch:
        models: list[Model] = []
        for index, path in enumerate((base, *finetuned)):
            models.append(Model(path, scratch / f"{index}_{path.name}" if path in foreign else path))
            if path in foreign:
                like = models[0] if index else None
                family = str(like.config()["model_type"]) if like else None
                import_checkpoint(path, models[-1].directory, family, like=like.directory if like else None)
        yield models


def _merge(base: Path, finetuned: list[Path], out: Path, members: Mapping[float, str], plan: Plan, made_by: str) -> None:
    """Merge at each alpha of `members` into its named directory below `out`."""
    from speechft.encoders.directory.layout import PRETRAINING_ONLY, WEIGHTS, check_recorded_hashes, copy_configuration, seal_encoder
    from speechft.encoders.directory.provenance import make_provenance

    check_paths(base, finetuned)
    check_folder(out, made_by, [base, *finetuned])
    with _opened(base, finetuned, out) as (start, *tuned):
        base_config, *configs = [model.config() for model in (start, *tuned)]
        check_configs(base_config, {str(path): config for path, config in zip(finetuned, configs, strict=True)}, str(base))
        readers = [model.reader() for model in (start, *tuned)]
        models = Models(readers[0], readers[1:], _keep(readers))
        check_compatible(models, plan, members)
        if plan.dtype is None and None not in [model.stored_in() for model in (start, *tuned)]:
            plan = replace(plan, dtype=start.stored_in())
        if (copy := models.copy_of_base()) is not None:
            raise MergeError(f"{copy.label}: has the same weights as {base}, so nothing was fine-tuned there. Give the fine-tuned model.")
        for model in (start, *tuned):
            check_recorded_hashes(model.directory)
        hashes = [sha256_file(reader.path) for reader in readers]
        put_in_order(models, hashes[1:], plan.method)
        roles = ["base", *(f"finetuned_{index}" for index in range(len(tuned)))]
        inputs = {role: model.provenance(digest) for role, model, digest in zip(roles, (start, *tuned), hashes, strict=True)}
        with atomic_directory(out, made_by) as temporary:
            directories = {alpha: temporary / member for alpha, member in members.items()}
            for directory in directories.values():
                directory.mkdir(exist_ok=True)
            stream_merge(models, {alpha: directory / WEIGHTS for alpha, directory in directories.items()}, plan)
            for alpha, directory in directories.items():
                copy_configuration(start.directory, directory)
                if (start.directory / PRETRAINING_ONLY).exists():
                    shutil.copyfile(start.directory / PRETRAINING_ONLY, directory / PRETRAINING_ONLY)
                provenance = {**make_provenance("merge", {}, _recipe(plan, alpha)), "inputs": inputs}
                seal_encoder(directory, provenance, name=members[alpha] or out.name)
                write_marker(directory, "merge")  # so that each member can be rebuilt alone


def _keep(readers: Sequence[TensorReader]) -> list[str]:
    """Return the tensors copied from the base: counters of batch normalization, and the mask embedding if a model has none."""
    lacking = [reader.label for reader in readers if MASK_EMBEDDING not in reader.tensors]
    if not 0 < len(lacking) < len(readers):
        return [COUNTERS]
    logger.warning("%s is missing in %s; it is used only for masking in training, so the base is followed", MASK_EMBEDDING, lacking[0])
    return [COUNTERS, MASK_EMBEDDING]


def _recipe(plan: Plan, alpha: float) -> dict[str, Any]:
    return {
        "method": plan.method.name,
        "formula": plan.method.summary,
        "reference": plan.method.reference,
        "alpha": alpha,
        **({"scale": dict(plan.scale)} if plan.scale else {}),
        **({"dtype": plan.dtype} if plan.dtype else {}),
        **plan.method.parameters.model_dump(mode="json"),
        **({"plugins": plugins} if (plugins := files_of("merge_method", plan.method.name)) else {}),
    }
