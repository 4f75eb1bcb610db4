"""A whole fine-tuning of the reference's runner, replayed: the same batches, padded as there, through our trainer."""

import json

import pytest
import torch
from finetune.watching import Updates, read_log
from lhotse import CutSet, Recording, SupervisionSegment
from safetensors.torch import load_file

from speechft.encoders import import_checkpoint, load_encoder
from speechft.fairseq_plugin.trainer import import_fairseq
from speechft.finetune import finetune
from speechft.recipes.finetuning import FinetuneRecipe
from speechft.tasks.base import LabelSet
from speechft.tasks.er import EmotionRecognition
from speechft.tasks.heads import UtteranceHead

CLASSES = ("neu", "hap", "ang", "sad")
HEAD = {
    "projector.weight": "Downstream.projector.weight",
    "projector.bias": "Downstream.projector.bias",
    "classifier.weight": "Downstream.model.post_net.linear.weight",
    "classifier.bias": "Downstream.model.post_net.linear.bias",
}


def cut_of(name, label, folder):
    cut = Recording.from_file(folder / f"{name}.flac", recording_id=name).to_cut()
    cut.id = name
    cut.supervisions = [SupervisionSegment(name, name, 0, cut.duration, custom={"label": label})]
    return cut


def test_fine_tuning_as_the_reference_did_it(golden, tmp_path, monkeypatch):
    """Our trainer is given the recorded batches and initial weights."""
    import_fairseq()
    from speechft.fairseq_plugin.criterion import TaskLoss
    from speechft.finetune import batches

    trace = json.loads((golden / "replay/er_finetune.trace.json").read_text())
    labels = {row["path"].removesuffix(".wav"): row["label"] for row in trace["corpus"]["train_json_order"]}
    (dev_rows,) = next(evaluation for evaluation in trace["evaluations"] if evaluation["split"] == "dev")["batches"]
    dev = dev_rows["utterances"]
    train = [name for name in labels if name not in dev]
    manifests = {split: tmp_path / f"{split}.jsonl.gz" for split in ("train", "dev")}
    for split, names in (("train", train), ("dev", dev)):
        CutSet.from_cuts([cut_of(name, labels[name], golden / "replay/er_audio") for name in names]).to_file(manifests[split])
    import_checkpoint(golden / "upstream/hubert.pt", tmp_path / "hubert")
    config = json.loads((tmp_path / "hubert/config.json").read_text())
    config |= {key: 0.0 for key in config if "dropout" in key or key == "layerdrop"}
    (tmp_path / "hubert/config.json").write_text(json.dumps(config))

    initial = load_file(golden / "replay/er_finetune.init.safetensors")

    def build_head(task, feature_dim, labels):
        head = UtteranceHead(feature_dim, len(labels), len(initial["Downstream.projector.bias"]))
        head.load_state_dict({ours: initial[theirs] for ours, theirs in HEAD.items()})
        return head

    plan = [[(0, train.index(name)) for name in batch["utterances"]] for batch in trace["micro_batches"]]
    monkeypatch.setattr(EmotionRecognition, "build_head", build_head)
    monkeypatch.setattr(EmotionRecognition, "label_set", lambda task, cuts: LabelSet(CLASSES))
    monkeypatch.setattr(batches, "plan_run", lambda *_: plan)
    losses, utterances, lengths = [], [], []
    forward = TaskLoss.forward

    def watched(criterion, model, sample, reduce=True):
        found = forward(criterion, model, sample, reduce)
        if model.training:
            losses.append(float(found[0].detach()))
            utterances.append(sample["ids"])
            lengths.append(model.encoder.encode(sample["speech"], model.padding).lengths.tolist())
        return found

    monkeypatch.setattr(TaskLoss, "forward", watched)
    updates = Updates(monkeypatch)
    runner = trace["config"]["runner"]
    recipe = FinetuneRecipe(
        task="er",
        updates=runner["total_steps"],
        batch_size=4,
        accumulate=runner["gradient_accumulate_steps"],
        peak_lr=trace["config"]["optimizer"]["lr"],
        clip_norm=runner["gradient_clipping"],
        validate_every=runner["eval_step"],
        head_only=0.0,
        padding="reference",
    )
    finetune(tmp_path / "hubert", recipe, manifests, tmp_path / "out")
    log = read_log(tmp_path / "out")

    assert utterances == [batch["utterances"] for batch in trace["micro_batches"]]
    assert lengths == [batch["feature_lengths"] for batch in trace["micro_batches"]]
    assert losses == pytest.approx([batch["loss"] for batch in trace["micro_batches"]], abs=1e-4)
    steps = trace["optimizer_steps"]
    assert updates.rates == pytest.approx([step["lr"] for step in steps], abs=1e-12)
    # fairseq's log has three decimals.
    assert [float(row["grad_norm"]) for row in log] == pytest.approx([step["grad_norm_before_clip"] for step in steps], abs=2e-3)
    accuracies = {evaluation["step"]: evaluation["acc"] for evaluation in trace["evaluations"] if evaluation["split"] == "dev"}
    assert {int(row["update"]): float(row["dev_ER"]) for row in log if row["dev_ER"]} == pytest.approx(accuracies, abs=1e-3)

    final = load_file(golden / "replay/er_finetune.final.safetensors")
    for ours, theirs in HEAD.items():
        torch.testing.assert_close(updates.part(-1, "head.")[ours], final[theirs], atol=1e-5, rtol=0)

    # The same tensors moved, each as far as in the reference; names differ between the two, so tensors are met by what they have.
    before = load_encoder(tmp_path / "hubert").backbone.state_dict()
    changes = {name: float((tensor - before[name]).norm()) for name, tensor in updates.encoder(-1).items()}
    # The positional convolution has the same tensors under other names, and what only pre-training needs is not in the encoder.
    recorded = {
        name.removeprefix("model."): norm
        for name, norm in trace["upstream_change_norm_per_tensor"].items()
        if "label_embs_concat" not in name and "final_proj" not in name
    }
    assert len(recorded) == len(changes)
    still = [name for name, norm in changes.items() if norm == 0.0]
    assert len(still) == sum(norm == 0.0 for norm in recorded.values()) == 10
    assert sum(name.startswith("feature_extractor") for name in still) == 9
    # A bias of the keys has no gradient but rounding noise.
    ours = sorted(norm for name, norm in changes.items() if not name.endswith("k_proj.bias"))
    theirs = sorted(norm for name, norm in recorded.items() if not name.endswith("k_proj.bias"))
    assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)
