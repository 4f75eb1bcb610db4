"""Time and peak memory of merging two models, compared with `cp` of the same files and mergekit 0.1.5.

    bash benchmarks/make_mergekit_env.sh       # once; without it there are no rows of mergekit
    python benchmarks/merge.py                 # prints Markdown; 2 GB of disk in --folder
    python benchmarks/merge.py --billions      # 2 billion parameters; 45 GB of disk

The models have the tensors of HuBERT base (94 M parameters), or of a wav2vec 2.0 of 2 billion (48 layers of width 1920), random float32.
`cp` copies both inputs, once without and once with waiting until the copies are on disk, as a merge of files waits for its output. All
commands alternate. On a machine with other load, compare CPU times.
"""

import argparse
import json
import math
import sys
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from machine import describe, median_and_range
from measured import measured_run

HERE = Path(__file__).parent
SIZES = {"tiny": (2, 64, 128, 32), "base": (12, 768, 3072, 512), "billions": (48, 1920, 7680, 512)}
"""Layers, width, feed-forward width, and channels of the convolutions."""
CONFIG = """merge_method: linear
models:
- model: {folder}/base.safetensors
  parameters: {{weight: 0.75}}
- model: {folder}/finetuned.safetensors
  parameters: {{weight: 0.25}}
dtype: float32
"""
HASHES = "SHA-256 of both inputs alone"
LIMIT_MB = {"tiny": 300, "base": 300, "billions": 1500}


def shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors of an encoder."""
    layers, width, inner, channels = SIZES[size]
    model: dict[str, tuple[int, ...]] = {f"feature_extractor.conv_layers.{i}.conv.weight": (channels, channels, 3) for i in range(6)}
    model |= {"feature_projection.projection.weight": (width, channels), "encoder.pos_conv_embed.conv.weight": (width, width // 16, 128)}
    for layer in range(layers):
        at = f"encoder.layers.{layer}"
        model |= {f"{at}.attention.{name}_proj.weight": (width, width) for name in ("q", "k", "v", "out")}
        model |= {f"{at}.attention.{name}_proj.bias": (width,) for name in ("q", "k", "v", "out")}
        model |= {f"{at}.feed_forward.intermediate_dense.weight": (inner, width), f"{at}.feed_forward.intermediate_dense.bias": (inner,)}
        model |= {f"{at}.feed_forward.output_dense.weight": (width, inner), f"{at}.layer_norm.weight": (width,)}
    return model


def make_models(folder: Path, size: str) -> None:
    """Write base.safetensors and finetuned.safetensors; values repeat after four million, which does not affect merges."""
    import torch

    from speechft.merge.tensors import TensorInfo, TensorWriter

    infos = {name: TensorInfo("F32", shape) for name, shape in shapes(size).items()}
    for seed, name in enumerate(("base", "finetuned")):
        values = torch.randn(2**22, generator=torch.Generator().manual_seed(seed))
        with closing(TensorWriter(folder / f"{name}.safetensors", infos)) as writer:
            for tensor in writer.order:
                for start in range(0, infos[tensor].size, len(values)):
                    writer.append(tensor, values[: infos[tensor].size - start])


def largest_difference(first: Path, second: Path) -> float:
    """Return the largest absolute difference of any value in two files with the same tensors."""
    from speechft.merge.tensors import TensorReader

    left, right = TensorReader(first), TensorReader(second)
    sizes = {name: info.size for name, info in left.tensors.items()}
    return max(float((left.piece(name, 0, size) - right.piece(name, 0, size)).abs().max()) for name, size in sizes.items())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="folder for temporary files; default: the system's")
    parser.add_argument("--billions", action="store_true", help="2 billion parameters instead of 94 million")
    parser.add_argument("--small", action="store_true", help="use a tiny model, to test this script")
    parser.add_argument("--methods", nargs="+", default=["linear", "ties"], help="methods for one fine-tuned model")
    parser.add_argument("--mergekit-python", type=Path, default=HERE / ".venv-mergekit/bin/python")
    return parser.parse_args()


def main() -> None:
    options = parse()
    size = "tiny" if options.small else "billions" if options.billions else "base"
    times: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, list[float]] = defaultdict(list)
    difference = None
    environment = {
        "OMP_NUM_THREADS": str(options.threads),
        "GOMP_SPINCOUNT": "10000",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(HERE.parent),
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        make_models(folder, size)
        (folder / "mergekit.yml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
        copy = f"cd {folder}; cp base.safetensors copy_1; cp finetuned.safetensors copy_2"
        commands = {"cp of both inputs": ["sh", "-c", copy], "cp, until on disk": ["sh", "-c", f"{copy}; sync copy_1 copy_2"]}
        worker = [sys.executable, str(HERE / "merge_worker.py"), str(folder)]
        for method in options.methods:
            commands[f"speechft, {method}"] = [*worker, method]
        commands["speechft, linear, encoder directories"] = [*worker, "linear", "directories"]
        commands[HASHES] = [*worker, "linear", "hashes"]
        if options.mergekit_python.exists():
            mergekit = str(options.mergekit_python.with_name("mergekit-pytorch"))
            commands["mergekit 0.1.5, linear, with starting Python"] = [mergekit, str(folder / "mergekit.yml"), str(folder / "mergekit")]
        for repetition in range(options.repetitions):
            for name, command in list(commands.items())[:: 1 if repetition % 2 == 0 else -1]:
                measured = measured_run(command, environment=environment)
                seconds, cpu_seconds, peak = measured.seconds, measured.cpu_seconds, measured.megabytes
                if name.startswith("speechft") or name == HASHES:
                    report = json.loads(measured.output)
                    if name != HASHES:
                        times[f"{name}, with starting Python"].append(seconds)
                        cpu[f"{name}, with starting Python"].append(cpu_seconds)
                        memory[f"{name}, with starting Python"].append(peak)
                    seconds, cpu_seconds, peak = report["seconds"], report["cpu_seconds"], report["above_mb"]
                times[name].append(seconds)
                cpu[name].append(cpu_seconds)
                memory[name].append(peak)
                for extra in ("copy_1", "copy_2"):
                    (folder / extra).unlink(missing_ok=True)
        files = list((folder / "mergekit").glob("*.safetensors"))
        if len(files) == 1 and "linear" in options.methods:
            # The last method has written merged.safetensors; the linear merge once more.
            measured_run(commands["speechft, linear"], environment=environment)
            difference = largest_difference(folder / "merged.safetensors", files[0])
    parameters = sum(math.prod(shape) for shape in shapes(size).values())
    print(describe())
    print(f"Two models of {parameters / 1e6:.0f} M parameters, float32; {options.threads} threads; ", end="")
    print(f"{options.repetitions} repetitions, taking turns; median (range). Peaks of the merge itself are above the interpreter's.\n")
    print("| what | time | CPU time | peak resident memory | time / cp | CPU time / cp |\n|---|---|---|---|---|---|")
    cp, cp_cpu = (sorted(of_command["cp of both inputs"])[options.repetitions // 2] for of_command in (times, cpu))
    for name in sorted(times, key=lambda name: (not name.startswith("cp"), not name.startswith("speechft"), name)):
        middle, middle_cpu = (sorted(of_command[name])[options.repetitions // 2] for of_command in (times, cpu))
        row = [median_and_range(times[name]), median_and_range(cpu[name]), median_and_range(memory[name], "MB")]
        row += [f"{middle / cp:.2f}", f"{middle_cpu / cp_cpu:.2f}"]
        print(f"| {name} | {' | '.join(row)} |")
    if difference is not None:
        print(f"\nLargest difference between speechft's linear merge and mergekit's: {difference:.1e}.")
    above = max((max(memory[f"speechft, {method}"]) for method in options.methods), default=0.0)
    if above > LIMIT_MB[size]:
        raise SystemExit(f"the merge needed {above:.0f} MB above the interpreter, more than {LIMIT_MB[size]}")


if __name__ == "__main__":
    main()
