import pytest
import torch


def train_as_recorded(head, task, recorded, reference_name, optimizer_class=torch.optim.Adam):
    """Three optimizer steps on the recorded batches; loss and gradient norms of each must be those of the reference."""
    optimizer = optimizer_class(head.parameters(), lr=recorded.meta["steps"][0]["lr"])
    assert recorded.meta["optimizer_class"] == optimizer_class.__name__
    assert len(recorded.meta["steps"]) == 3
    for step in recorded.meta["steps"]:
        features, lengths, targets = recorded.batch(step["batch"])
        loss = task.loss(*head(features, lengths), targets)
        assert loss.item() == pytest.approx(step["loss"], abs=5e-5)
        loss.backward()
        for name, parameter in head.named_parameters():
            expected = step["grad_norm_per_tensor_before_clip"][reference_name(name)]
            assert parameter.grad.norm().item() == pytest.approx(expected, rel=1e-3)
        total = torch.nn.utils.clip_grad_norm_(head.parameters(), recorded.meta["gradient_clipping"])
        assert total.item() == pytest.approx(step["grad_norm_total_before_clip"], rel=1e-3)
        optimizer.step()
        optimizer.zero_grad()
