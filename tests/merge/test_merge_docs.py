"""docs/merge.md names what there is."""

import re

from conftest import ROOT

from speechft.merge import METHODS
from speechft.merge.parts import PARTS

GUIDE = (ROOT / "docs/merge.md").read_text(encoding="utf-8")
ROWS = {cells[1].strip("` "): line for line in GUIDE.splitlines() if (cells := line.split("|"))[0] == "" and len(cells) == 8}


def test_every_method_has_a_row_with_its_parameters_its_source_and_its_number_of_models():
    assert set(METHODS) <= set(ROWS)
    for name, method in METHODS.items():
        cells = ROWS[name].split("|")
        assert cells[2].strip() == (str(method.fewest) if method.most == method.fewest else f"{method.fewest} or more")
        assert set(re.findall(r"`(\w+)` \(", cells[5])) >= set(method.Parameters.model_fields)
        papers = re.findall(r"\d{4}\.\d{5}", cells[6])
        assert all(paper in method.reference for paper in papers)
        assert papers or name == "slerp"


def test_every_part_is_named():
    assert all(f"`{part}`" in GUIDE for part in PARTS)
