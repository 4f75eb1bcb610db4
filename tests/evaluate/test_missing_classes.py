import pytest
from evaluate.test_evaluate import QUICK
from evaluate.tone_corpus import make_splits, write_splits

from speechft.errors import TaskError
from speechft.evaluate import evaluate


def test_a_class_that_train_lacks_is_an_error_though_the_options_name_it(model_dir, tmp_path):
    splits = make_splits(tmp_path, {"train": 6, "dev": 3, "test": 3})
    splits["train"] = [cut for cut in splits["train"] if cut.supervisions[0].custom["label"] != "high"]
    recipe = {**QUICK["ks"], "task_options": {"classes": ["low", "middle", "high", "silent"]}}
    with pytest.raises(TaskError, match=r"(?s)dev split: 1 utterance.*no utterance of train has.*dev002: class 'high'"):
        evaluate(model_dir, "ks", write_splits(tmp_path, splits), tmp_path / "a.json", recipe)
    # A class that nobody has does no harm.
    for name in ("dev", "test"):
        splits[name] = [cut for cut in splits[name] if cut.supervisions[0].custom["label"] != "high"]
    assert evaluate(model_dir, "ks", write_splits(tmp_path, splits), tmp_path / "a.json", recipe)["counts"]["labels"] == 4
