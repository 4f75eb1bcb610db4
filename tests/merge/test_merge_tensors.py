"""The safetensors reader and writer: the library reads what is written, and a merge holds a few tensors at a time."""

import json
import struct
import subprocess
import sys

import torch
from conftest import ROOT
from encoders.tiny import equal
from safetensors.torch import load_file, save_file

from speechft.merge.tensors import TensorReader, TensorWriter

TENSORS = {
    "z.half": torch.arange(3).half(),
    "scalar": torch.tensor(2.5),
    "a.bfloat": torch.arange(4).bfloat16(),
    "double": torch.arange(5).double(),
    "flags": torch.tensor([True, False, True]),
    "empty": torch.empty(0, 2),
    "bytes": torch.arange(7, dtype=torch.uint8),
    "matrix": torch.arange(6.0).reshape(2, 3),
    "naïve": torch.ones(1),
}


def test_every_dtype_and_shape_survives_aligned_to_its_elements(tmp_path):
    save_file(TENSORS, tmp_path / "in.safetensors")
    reader = TensorReader(tmp_path / "in.safetensors")
    writer = TensorWriter(tmp_path / "out.safetensors", reader.tensors)
    for name in writer.order:
        writer.append(name, reader.piece(name, 0, reader.tensors[name].size))
    writer.close()
    assert equal(load_file(tmp_path / "out.safetensors"), TENSORS)
    content = (tmp_path / "out.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    for name, entry in header.items():
        assert (8 + length + entry["data_offsets"][0]) % TENSORS[name].element_size() == 0


MEASURE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from speechft.merge import get_method, merge_files

folder = Path(sys.argv[1])
torch.set_num_threads(1)


def peak():
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]) / 1024


for name, value in (("small_a", 0.0), ("small_b", 1.0), ("small_c", 2.0)):
    save_file({"x": torch.full((1,), value)}, folder / name)
for kind in ("small_", ""):
    before = peak()
    for method in ("linear", "ties", "dare", "model_stock"):
        a, b, c = (folder / (kind + name) for name in "abc")
        merge_files(a, [b, c], folder / "out", get_method(method))
print(peak() - before)
"""


def test_peak_memory_is_a_few_pieces_however_large_the_tensors_are(tmp_path):
    for seed, name in enumerate("abc"):
        generator = torch.Generator().manual_seed(seed)
        save_file({"one": torch.randn(10 * 2**20, generator=generator), "other": torch.randn(2**20, generator=generator)}, tmp_path / name)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    # One tensor of one model is 40 MB; three models are read.
    assert 0 < float(done.stdout) < 40
