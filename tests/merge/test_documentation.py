"""The method that docs/merge.md writes as an example."""

import re

import torch
from conftest import ROOT

from speechft.merge import METHODS
from speechft.merge.methods.base import MergeMethod
from speechft.merge.models import Piece


def test_the_example_of_a_method_works(merged, monkeypatch):
    (code,) = re.findall(r"```python\n(class FartherMerge.*?)```", (ROOT / "docs/merge.md").read_text(), re.DOTALL)
    names = {"MergeMethod": MergeMethod, "Piece": Piece, "Tensor": torch.Tensor}
    exec(code, names)
    monkeypatch.setitem(METHODS, "farther", names["FartherMerge"])
    base, first, second = torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1.0]), torch.tensor([-3.0, 0.5])
    result = merged({"w": base}, [{"w": first}, {"w": second}], 1.0, method="farther")
    assert torch.equal(result["w"], torch.tensor([-3.0, -1.0]))
