"""Compare fine-tuning with s3prl 0.4.18's runner (`--upstream_trainable`): updates per second and peak memory, HuBERT-base size.

    bash benchmarks/make_s3prl_env.sh          # once
    python benchmarks/finetune.py              # prints Markdown
    python benchmarks/finetune.py --sides speechft no_cache before --before ../another-checkout

Sides: s3prl; speechft; speechft without the cache of the frozen extractor's output (`no_cache`); and speechft from another checkout
(`before`). All train the encoder (without the convolutional extractor) and ER's head on the last hidden state, from the same random
weights, on the same clips of noise of equal length, so that there is no padding and every batch has the same shape. Adam, accumulation and
clipping are those of the recipe. Each run is a separate process; sides alternate, and the first side changes. The first updates of a run do
not
count: they fill the cache, like the first of hundreds of epochs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from machine import describe, median_and_range
from peer import add_peer_options, check_peer, hubert_base

HERE = Path(__file__).parent
SAMPLE_RATE = 16_000
SESSIONS = 5
EMOTIONS = ("ang", "hap", "neu", "sad")
SEED = 1337
WARM_UP = 4
"""Updates after the first that do not count: two process all utterances, two more were read ahead."""
CACHE_OPTIONS: dict[str, dict[str, Any]] = {"speechft": {}, "no_cache": {"options": {"cache_gb": 0}}, "before": {}}
SIDES = ("s3prl", "speechft", "no_cache", "before")


def make_corpus(folder: Path, seconds: float, batch_size: int) -> Path:
    """Create IEMOCAP's layout and our manifests in `folder`, and return the path of the manifests. Training batches are complete."""
    from speechft.corpora import prepare_corpus
    from speechft.recipes.corpora import CorpusRecipe

    per_session = next(count for count in range(len(EMOTIONS), 1000) if int(0.8 * (SESSIONS - 1) * count) % batch_size == 0)
    generator = np.random.default_rng(0)
    data, rows = [], ["path,label,fold,split"]
    for session in range(1, SESSIONS + 1):
        for index in range(per_session):
            path, label = f"Session{session}/{index:03d}.wav", EMOTIONS[index % len(EMOTIONS)]
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / path, 0.1 * generator.standard_normal(round(seconds * SAMPLE_RATE)), SAMPLE_RATE)
            data.append({"path": path, "label": label, "speaker": f"s{session}"})
            rows.append(f"{path},{label},{session},train")
    labels = {emotion: number for number, emotion in enumerate(EMOTIONS)}
    for session in range(1, SESSIONS + 1):
        own = [item for item in data if item["path"].startswith(f"Session{session}/")]
        for name, members in (("train", [item for item in data if item not in own]), ("test", own)):
            path = folder / "meta" / f"Session{session}" / f"{name}_meta_data.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"labels": labels, "meta_data": members}), encoding="utf-8")
    (folder / "corpus.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    prepare_corpus(CorpusRecipe(path=folder / "corpus.csv"), folder / "manifests")
    return folder / "manifests"


class Bench:
    """All sides on one encoder and one corpus."""

    def __init__(self, folder: Path, options: Any) -> None:
        from speechft.encoders import export_checkpoint

        self.folder, self.options, self.runs = folder, options, 0
        self.model = hubert_base(folder / "model", small=options.small)
        export_checkpoint(self.model, folder / "model.pt", format="s3prl")
        self.manifests = make_corpus(folder / "corpus", options.seconds, options.batch_size)

    def run(self, side: str, device: str) -> dict[str, Any]:
        """Run one side and return its report."""
        self.runs += 1
        job = self.folder / f"job{self.runs}"
        job.mkdir()
        description = self._s3prl(job, device) if side == "s3prl" else {**self._speechft(job, device), **CACHE_OPTIONS[side]}
        (job / "job.json").write_text(json.dumps({**description, "threads": self.options.threads}))
        python = str(self.options.s3prl_python) if side == "s3prl" else sys.executable
        runner = "s3prl" if side == "s3prl" else "speechft"
        command = [python, str(HERE / "finetune_worker.py"), runner, str(job / "job.json"), str(job / "report.json")]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.options.threads)}
        environment |= {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        environment |= {"PYTHONPATH": str(self.options.before if side == "before" else HERE.parent)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parent)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
        report: dict[str, Any] = json.loads((job / "report.json").read_text())
        expected = self.options.batch_size * self.options.accumulate
        if report["utterances"] != [expected] * (self.options.updates - 1):
            raise SystemExit(f"{side}: updates processed {report['utterances']} utterances, not {expected} each")
        return report

    def _speechft(self, job: Path, device: str) -> dict[str, Any]:
        options = self.options
        recipe = {"task": "er", "fold": "1", "updates": options.updates, "batch_size": options.batch_size, "accumulate": options.accumulate}
        recipe |= {"head_only": 0.0, "validate_every": options.updates, "early": [], "precision": "fp32" if device == "cpu" else "bf16"}
        return {"model": str(self.model), "recipe": recipe, "manifests": str(self.manifests), "out": str(job / "out")}

    def _s3prl(self, job: Path, device: str) -> dict[str, Any]:
        options, never = self.options, 10**9
        runner = {"total_steps": options.updates, "eval_step": never, "log_step": options.updates, "save_step": never, "max_keep": 1}
        runner |= {"eval_dataloaders": ["dev"], "gradient_clipping": 1.0, "gradient_accumulate_steps": options.accumulate}
        data = {"root": str(self.folder / "corpus"), "meta_data": str(self.folder / "corpus/meta"), "test_fold": "fold1", "pre_load": True}
        data |= {"train_batch_size": options.batch_size, "eval_batch_size": 4, "num_workers": 0, "valid_ratio": 0.2}
        head = {"projector_dim": 256, "select": "UtteranceLevel", "UtteranceLevel": {"pooling": "MeanPooling"}}
        optimizer = {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1e-4}
        config = {"runner": runner, "optimizer": optimizer, "downstream_expert": {"datarc": data, "modelrc": head}}
        arguments = {
            **{"upstream": "hubert_local", "upstream_ckpt": str(self.folder / "model.pt"), "upstream_model_config": None},
            **{"upstream_feature_selection": "last_hidden_state", "upstream_layer_selection": None, "upstream_feature_normalize": False},
            **{"upstream_refresh": False, "upstream_trainable": True, "device": device, "seed": SEED, "downstream": "emotion"},
            **{"downstream_variant": None, "expdir": str(job), "evaluate_split": "test", "init_ckpt": None, "push_to_hf_hub": False},
        }
        return {"arguments": arguments, "config": config}


def measure(bench: Bench, device: str, rounds: int) -> list[str]:
    """Measure all sides on a device and return rows of the table."""
    reports: dict[str, list[dict[str, Any]]] = {side: [] for side in bench.options.sides}
    for number in range(rounds):
        for side in sorted(reports, reverse=bool(number % 2)):
            reports[side].append(bench.run(side, device))
    values = {
        side: {kind: [value for report in of_side for value in report[kind][WARM_UP:]] for kind in ("wall", "cpu")}
        for side, of_side in reports.items()
    }
    versions = {report["torch"] for of_side in reports.values() for report in of_side}
    if len({version.split("+")[0] for version in versions}) != 1:
        raise SystemExit(f"versions of torch differ: {', '.join(sorted(versions))}")
    rows = []
    for side, of_side in reports.items():
        precision = "bf16, SDPA" if side != "s3prl" and device == "cuda" else "fp32"
        peak = max(report["peak"] for report in of_side) / 2**30
        wall, cpu = values[side]["wall"], values[side]["cpu"]
        times = f"{1 / statistics.median(wall):.3g} | {median_and_range(wall)} | {median_and_range(cpu)}"
        rows.append(f"| {device}, {precision} | {side} | {times} | {peak:.2f} GiB |")
    for side in reports:
        if side != "speechft":
            ratio = {kind: statistics.median(values[side][kind]) / statistics.median(values["speechft"][kind]) for kind in ("wall", "cpu")}
            rows.append(f"| {device} | **{side} / speechft** | | **{ratio['wall']:.3g}** | **{ratio['cpu']:.3g}** | |")
    return rows


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=9, help=f"updates per run; the first {1 + WARM_UP} do not count")
    parser.add_argument("--rounds", type=int, default=3, help="runs per side")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of every clip")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--devices", nargs="+", choices=["cpu", "cuda"], default=["cpu"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["s3prl", "speechft", "no_cache"])
    parser.add_argument("--before", type=Path, help="another checkout, for the side `before`")
    add_peer_options(parser)
    options = parser.parse_args()
    if "speechft" not in options.sides or ("before" in options.sides) != (options.before is not None):
        parser.error("--sides has speechft, and before if and only if --before names a checkout")
    return options


def main() -> None:
    options = parse()
    if "s3prl" in options.sides:
        check_peer(options)
    if options.updates <= 1 + WARM_UP:
        raise SystemExit(f"--updates {options.updates}: must be at least {2 + WARM_UP}, since the first ones do not count")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), options)
        rows = [row for device in options.devices for row in measure(bench, device, options.rounds)]
    print(describe())
    print(f"{'A tiny model' if options.small else 'HuBERT base, random weights'}; {options.threads} thread(s); an update is", end=" ")
    print(f"{options.accumulate} batches of {options.batch_size} clips of {options.seconds:g} s.\n")
    print("| device | side | updates per second | wall time of an update | CPU time of an update | peak memory |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
