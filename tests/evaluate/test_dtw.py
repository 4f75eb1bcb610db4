import json

import numpy as np
import pytest
import torch

from speechft.evaluate.protocols import dtw
from speechft.evaluate.protocols.dtw import FrameStatistics, path_costs, raw_scores, z_scores
from speechft.evaluate.protocols.qbe import YES


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize("case", range(4))
def test_scores_and_decisions_equal_the_reference(golden, case, dtype, tolerance):
    recorded, arrays = json.loads((golden / "metrics" / "qbe.json").read_text()), np.load(golden / "metrics" / "qbe.npz")
    expected, frames = recorded["cases"][case], {name: torch.from_numpy(arrays[name]).to(dtype) for name in arrays}

    def close(scores, kind):
        wanted = [[expected[kind][query][document] for document in recorded["docs"]] for query in recorded["queries"]]
        torch.testing.assert_close(scores, torch.tensor(wanted, dtype=torch.float64), atol=tolerance, rtol=0)

    if expected["feature_normalization"]:
        statistics = FrameStatistics()
        for found in frames.values():
            statistics.add(found)
        frames = {name: statistics.normalized(found) for name, found in frames.items()}
    raw = raw_scores(*([frames[name] for name in recorded[kind]] for kind in ("queries", "docs")), expected["dist_method"]).double()
    close(raw, "raw_scores")
    normalized = z_scores(raw)
    close(normalized, "z_scores")
    for query, scores in zip(recorded["queries"], normalized.tolist(), strict=True):
        for document, score in zip(recorded["docs"], scores, strict=True):
            written = expected["xml_score_and_decision"][query][document]
            assert written == [f"{score + 0.0:.4f}", "YES" if score > YES else "NO"]


def slow_cost(distances):
    """The cost of the best path, a cell at a time."""
    rows, columns = distances.shape
    costs = np.full((rows, columns), np.inf)
    costs[0] = distances[0]
    for i in range(1, rows):
        for j in range(columns):
            costs[i, j] = distances[i, j] + min(costs[i - 1, k] for k in (j, j - 1, j - 2) if k >= 0)
    return costs[-1].min() / rows


def test_all_pairs_at_once_are_the_pairs_one_by_one():
    generator = np.random.default_rng(0)
    query_lengths, document_lengths = [5, 9, 7, 9], [12, 1, 2, 20, 3]
    distances = torch.full((9, 4, 5, 20), float("inf"), dtype=torch.float64)
    pairs = {}
    for q, query in enumerate(query_lengths):
        for d, document in enumerate(document_lengths):
            pairs[q, d] = generator.random((query, document))
            # Frames of the query past its end lead on from its last one and must not count.
            distances[:query, q, d, :document] = torch.from_numpy(pairs[q, d])
            distances[query:, q, d, :document] = -10.0
    costs = path_costs(distances, torch.tensor(query_lengths))
    for (q, d), pair in pairs.items():
        assert costs[q, d].item() == pytest.approx(slow_cost(pair), abs=1e-12)


def test_neither_batch_mates_nor_block_size_change_a_score(monkeypatch):
    torch.manual_seed(0)
    queries = [torch.randn(length, 6) for length in (9, 4, 30, 12)]
    documents = [torch.randn(length, 6) for length in (40, 1, 17, 60)]
    together = raw_scores(queries, documents)
    assert together[1].tolist() == [0.0] * 4
    alone = torch.cat([raw_scores(queries, [document]) for document in documents], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    monkeypatch.setattr(dtw, "BLOCK_VALUES", 1)
    torch.testing.assert_close(raw_scores(queries, documents), together, atol=1e-5, rtol=0)


def test_statistics_of_batches_are_those_of_all_frames():
    torch.manual_seed(0)
    states = 5 + 3 * torch.randn(2, 50, 4, dtype=torch.float64)
    states[1, :, 2] = 1.5
    statistics = FrameStatistics()
    for part in states.split([20, 1, 29], dim=1):
        statistics.add(part)
    normalized = statistics.normalized(states)
    deviation = states.std(dim=1, keepdim=True).clamp(min=1e-9)
    torch.testing.assert_close(normalized[0], ((states - states.mean(dim=1, keepdim=True)) / deviation)[0])
    assert normalized[1, :, 2].abs().max() < 1e-3
    assert statistics.normalized(states.float()).dtype == torch.float32
    with pytest.raises(ValueError, match="0 frame"):
        FrameStatistics().normalized(states)


def test_what_does_not_vary_counts_zero():
    assert z_scores(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2
    assert z_scores(torch.tensor([[1.0, 3.0]])).tolist() == [[-1.0, 1.0]]
    # A document of one frame has no smallest and largest distance.
    assert raw_scores([torch.randn(10, 8)], [torch.randn(1, 8)]).item() == 0
