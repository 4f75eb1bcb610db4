"""One side of benchmarks/encoder.py: loads an encoder and times it on request, so that two sides can alternate.

    python encoder_worker.py {speechft|s3prl} MODEL DEVICE THREADS

Reads one JSON object per line from standard input, {"waveforms": FILE.npz, "features": FILE.npy or null}, and answers each with
{"seconds": float}; an empty line requests the peak memory. Also runs in s3prl's environment: needs only torch, NumPy and its own side.
"""

import json
import os
import sys
import time

side, model, device, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
os.environ["OMP_NUM_THREADS"] = str(threads)
# Libraries print to standard output, where only answers may appear.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import numpy as np  # noqa: E402 - after the number of threads is set
import torch  # noqa: E402
from measured import peak_megabytes  # noqa: E402


def load_speechft():
    """Load our encoder: fp32 without TF32, the default of evaluation."""
    from speechft.encoders import load_encoder
    from speechft.evaluate.data.features import exact_fp32

    encoder = load_encoder(model).to(device)

    def run(waveforms):
        with torch.inference_mode(), exact_fp32():
            return encoder.encode(waveforms).hidden_states

    return run


def load_s3prl():
    """Load s3prl's expert, fp32 everywhere, as in its downstream tasks."""
    from s3prl.upstream.hubert.expert import UpstreamExpert

    expert = UpstreamExpert(model).to(device).eval()

    def run(waveforms):
        with torch.inference_mode():
            return expert(waveforms)["hidden_states"]

    return run


def main():
    torch.set_num_threads(threads)
    run = {"speechft": load_speechft, "s3prl": load_s3prl}[side]()
    answer({"torch": torch.__version__})
    for line in sys.stdin:
        if not line.strip():
            answer({"peak_bytes": peak_bytes()})
            continue
        task = json.loads(line)
        with np.load(task["waveforms"]) as file:
            waveforms = [torch.from_numpy(file[name]).to(device) for name in file.files]
        synchronize()
        start = time.perf_counter()
        states = run(waveforms)
        synchronize()
        seconds = time.perf_counter() - start
        if task["features"]:
            np.save(task["features"], torch.stack(tuple(states)).float().cpu().numpy())
        answer({"seconds": seconds})


def synchronize():
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes():
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return peak_megabytes() * 2**20


def answer(value):
    answers.write(json.dumps(value) + "\n")


main()
