"""Check and measure a GPU in at most eight minutes, without downloads: correctness, speed and memory.

    python benchmarks/gpu.py --out gpu          # gpu/gpu.md, gpu/gpu.json, gpu/throughput.json

1. `speechft doctor --gpu`'s checks: features, cells, stage 1 and a restart against the CPU, two claims of one device.
2. Speed and peak memory, with random weights of HuBERT-base size: the encoder, updates of stage 1 (fp32 and bf16), cells of KS, PR, SD and
   QbE on stand-ins of their corpora.
3. The encoder and stage 1 against s3prl 0.4.18, where its environment is (benchmarks/make_s3prl_env.sh).
4. What `speechft calibrate` measures, for config/throughput.json.

Parts that do not fit into the time are left out, as the report says. `--device cpu --small` tests the script itself.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import describe
from peer import add_peer_options, hubert_base

HERE = Path(__file__).parent
ROOT = HERE.parent
MINUTES = 8.0
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ks": ("speech_commands", {"steps": 400, "eval_every": 200}),
    "pr": ("librispeech", {"steps": 100, "eval_every": 50}),
    "sd": ("libri2mix", {"steps": 60, "eval_every": 30}),
    "qbe": ("quesst14", {}),
}
UPDATES = (10, 40)
"""Updates of two runs, whose difference in time excludes the start of a run."""


class Report:
    """Report whose rows are written one by one, so that an interrupted run keeps its measurements."""

    def __init__(self, out: Path, device: str, minutes: float) -> None:
        self.out, self.ends, self.rows = out, time.monotonic() + 60 * minutes, []
        self.head = f"{describe()}, {device_name(device)}"
        out.mkdir(parents=True, exist_ok=True)

    def add(self, section: str, what: str, found: str, **values: Any) -> None:
        self.rows.append({"section": section, "what": what, "found": found, **values})
        print(f"{section}: {what}: {found}", flush=True)
        lines = [f"{self.head}.", "", "| | what | found |", "|---|---|---|"]
        lines += [f"| {row['section']} | {row['what']} | {row['found']} |" for row in self.rows]
        (self.out / "gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.out / "gpu.json").write_text(json.dumps({"machine": self.head, "rows": self.rows}, indent=1) + "\n", encoding="utf-8")

    def fits(self, section: str, what: str, seconds: float) -> bool:
        """Whether there is time left for a part that takes about `seconds`."""
        if self.ends - time.monotonic() > seconds:
            return True
        self.add(section, what, "left out: no time")
        return False


def device_name(device: str) -> str:
    import torch

    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if device == "cuda" else "no GPU used"


def correctness(report: Report, device: Any) -> None:
    from speechft.doctor.gpu import check_results

    for finding in check_results(device):
        report.add("right", finding.name, f"{finding.status}: {finding.found}")


def stage1(report: Report, folder: Path, *, small: bool) -> None:
    """Measure updates per second from the difference of a short and a longer run."""
    from speechft.doctor.gpu import tones

    manifests = tones(folder / "stage1", {"train": 32, "dev": 4, "test": 4}, (1.0, 1.0) if small else (8.0, 8.0))
    for precision in ("fp32", "bf16"):
        if not report.fits("stage 1", precision, 60):
            continue
        seconds = {}
        for updates in UPDATES:
            recipe = {"task": "sid", "updates": updates, "batch_size": 8, "validate_every": updates, "precision": precision, "head_only": 0}
            (folder / "stage1.json").write_text(json.dumps(recipe))
            out = folder / f"stage1-{precision}-{updates}"
            command = [sys.executable, "-m", "speechft.cli", "finetune", str(folder / "base"), str(manifests), "--out", str(out)]
            started = time.perf_counter()
            subprocess.run([*command, "--recipe", str(folder / "stage1.json")], check=True, stdout=subprocess.DEVNULL)
            seconds[updates] = time.perf_counter() - started
        rate = (UPDATES[1] - UPDATES[0]) / max(1e-9, seconds[UPDATES[1]] - seconds[UPDATES[0]])
        report.add("stage 1", f"{precision}, 8 utterances an update", f"{rate:.2f} updates/s", updates_per_second=rate)


def cells(report: Report, folder: Path, device: str, *, small: bool) -> None:
    """Measure seconds and peak memory of a cell in each precision, in this process."""
    import torch

    from speechft.corpora import prepare_corpus
    from speechft.evaluate import evaluate
    from speechft.recipes.corpora import KINDS
    from speechft.rehearsal.stand_ins import build_stand_in

    for task, (kind, recipe) in CELLS.items():
        corpus = folder / "corpora" / kind
        files = build_stand_in(kind, corpus, ROOT / "mini/speech")
        lexicon = {"lexicon": [str(path) for path in files["lexicon"]]} if "lexicon" in files else {}
        prepare_corpus(
            KINDS[kind].model_validate({"kind": kind, "path": corpus, "complete": False, **lexicon}), folder / "manifests" / kind
        )
        options = {"task_options": lexicon} if lexicon else {}
        for precision in ("fp32", "bf16"):
            if not report.fits("cell", f"{task}, {precision}", 45):
                continue
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            out = folder / f"{task}-{precision}.json"
            whole = {**recipe, **options, "protocol": "quick", "precision": precision}
            if small and task != "qbe":
                whole |= {"steps": 2, "eval_every": 2, "learning_rates": [1e-3]}
            cell = evaluate(folder / "base", task, folder / "manifests" / kind, out, whole, device=device)
            seconds = time.perf_counter() - started
            peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
            memory = "" if peak is None else f", {peak:.2f} GiB"
            scores = ", ".join(f"{key} {value:.4g}" for key, value in cell["metrics"].items())
            report.add("cell", f"{task}, {precision}", f"{seconds:.1f} s{memory}; {scores}", seconds=seconds, gibibytes=peak)


def peers(report: Report, options: argparse.Namespace) -> None:
    """Run the comparisons with s3prl if its environment exists."""
    for script in ("encoder.py", "finetune.py"):
        if not options.s3prl_python.exists():
            report.add("s3prl", script, f"left out: no {options.s3prl_python.name} of s3prl here")
        elif report.fits("s3prl", script, 90):
            command = [sys.executable, str(HERE / script), "--devices", options.device, *(["--small"] if options.small else [])]
            done = subprocess.run(command, capture_output=True, text=True)
            lines = [line for line in done.stdout.splitlines() if line.startswith("| ") and "---" not in line]
            report.add("s3prl", script, " / ".join(lines[1:]) if lines else f"failed: {done.stderr.strip()[-200:]}")


def speeds(report: Report, device: Any, *, small: bool) -> None:
    """Measure the speeds that plans need, in the format of config/throughput.json."""
    from speechft.planning.calibration import calibrate
    from speechft.planning.speeds import save_device

    if not report.fits("calibrate", device, 60):
        return
    measured = calibrate(device, ("hubert",), seconds=5.0 if small else 60.0)
    save_device(report.out / "throughput.json", measured)
    rate = measured.encoders["hubert_base"].forward["fp32"]
    report.add("calibrate", measured.name, f"HuBERT base, fp32: {rate:.0f} h of audio an hour; all of it in throughput.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of the report")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--skip", choices=("right", "stage1", "cells", "calibrate", "s3prl"), nargs="+", default=[])
    add_peer_options(parser)
    options = parser.parse_args()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here. `--device cpu --small` tests the script.")
    report = Report(options.out, options.device, options.minutes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sections = {
            "right": lambda: correctness(report, options.device),
            "stage1": lambda: stage1(report, folder, small=options.small),
            "cells": lambda: cells(report, folder, options.device, small=options.small),
            "calibrate": lambda: speeds(report, options.device, small=options.small),
            "s3prl": lambda: peers(report, options),
        }
        hubert_base(folder / "base", small=options.small)
        for name, run in sections.items():
            if name not in options.skip:
                run()


if __name__ == "__main__":
    main()
