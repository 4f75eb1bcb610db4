"""Experiments that cannot be: every mistake is named with its key before anything runs."""

import pytest
from experiment.edits import demo_values, full_values, put

from speechft.errors import ConfigError
from speechft.experiment.schema import load_experiment, parse_experiment

# Where, what stands there, and what the message says.
MISTAKES = [
    # corpora
    ("corpora.keywords.path", ..., "  corpora.keywords.path: is missing"),
    ("corpora.keywords.kind", "cvs", "corpora.keywords: Input tag 'cvs' found using 'kind' does not match any of the expected tags: 'csv'"),
    ("corpora.keywords.default_split", "x", "default_split: Input should be 'train', 'dev' or 'test', found 'x'"),
    ("corpora.both.of", ["keywords", "x"], "corpora.both.of: 'x' is not defined"),
    ("corpora.both.off", 1, "  corpora.both.off: unknown key; did you mean 'of'?"),
    ("corpora.a/b", {"kind": "csv", "path": "x"}, "corpora.a/b"),
    # encoders
    ("encoders.hubert_demo.recipe.updats", 3, "encoders.hubert_demo.recipe.updats: unknown key; did you mean 'updates'? Allowed here: "),
    ("encoders.hubert_demo.recipe.seed", 2**32 - 1, "encoders.hubert_demo.recipe.seed: Input should be less than 4294967295"),
    ("encoders.fbank.recipe", {"mels": 40}, "mels: unknown key; did you mean 'mel_bins'?"),
    ("encoders.theirs.name", "hubert", "hubert_base, wav2vec2_base, wavlm_base_plus, decoar2"),
    ("encoders.mine.family", "unispeech", "'wav2vec2-bert' or 'whisper', found 'unispeech'"),
    ("encoders.second.recipe.targets.encoder", "nobody", "'nobody' is not defined"),
    ("encoders.second.recipe.targets", {"layer": 1}, "needs an encoder"),
    ("encoders.second.recipe.targets", "own_predictions", "name it"),
    ("encoders.second.start", "longer", "from itself"),
    ("encoders.second.recipe.repeats", [1, 2, 3, 4], "repeats: 4 numbers for"),
    ("encoders.second.recipe.smooth_targets", 4, "is even"),
    ("encoders.longer.recipe.architecture", {"layers": 5}, "omit it"),
    ("encoders.contrastive.recipe.targets", {"layer": 1}, "targets is a key of family hubert"),
    # fine-tunings
    ("finetunings.pr_sentences.corpus", "x", "finetunings.pr_sentences.corpus: 'x' is not defined"),
    ("finetunings.pr_sentences.recipe.task", "prr", "finetunings.pr_sentences.recipe.task: 'prr'"),
    ("finetunings.pr_sentences.recipe.seed", -1, "finetunings.pr_sentences.recipe.seed"),
    ("finetunings.pr_sentences.recipe.warmup", 0.7, "warmup + hold = 1.1 is more than 1"),
    ("finetunings.pr_sentences.start", "then_sid/speech_ft", "itself starts from pr_sentences"),
    ("finetunings.then_sid.start", "nothing/speech_ft", "finetunings.then_sid.start: 'nothing/speech_ft' is not a model"),
    ("finetunings.then_sid.start", "pr_sentences/no", "then_sid.start: 'pr_sentences/no' is not a model"),
    ("finetunings.joint.jointly", {}, "jointly: joint tasks of the recipe are sid, but corpora are given for none"),
    ("finetunings.joint.jointly.sid", "nowhere", "finetunings.joint.corpus: 'nowhere' is not defined"),
    ("finetunings.joint.recipe.jointly.sid", {"task": "sdi"}, "finetunings.joint.recipe.task: 'sdi' is not defined"),
    ("finetunings.joint.recipe.jointly", {"pr": {"task": "pr"}}, "'pr' is the recipe's own task"),
    ("finetunings.own.recipe", {"task": "pr", "updates": 3}, "give exactly one of"),
    # combinations and methods
    ("combinations.pr+sid.of", ["pr_sentences", "er"], "combinations.pr+sid.of: 'er' is not defined"),
    ("combinations.pr+sid.of", ["sid"], "combinations.pr+sid.of: Tuple should have at least 2 items"),
    ("combinations.pr+sid.of", ["sid", "sid"], "combinations.pr+sid.of: 'sid' appears twice"),
    (
        "combinations.pr+sid.of",
        ["sid", "then_sid"],
        "combinations.pr+sid.of: these start from different models (none/pretrained, pr_sentences/speech_ft)",
    ),
    ("combinations.own", {"of": ["pr_sentences", "sid"]}, "combinations.own: a fine-tuning has this"),
    ("methods.m", {"kind": "merge", "label": "M", "of": "n"}, "methods.m.of: 'n' is not defined"),
    ("methods.chosen.choose.tasks", ["pr", "nothing"], "methods.chosen.choose.tasks: 'nothing' is not defined"),
    ("methods.chosen.choose.tasks", ["pr", "pr"], "methods.chosen.choose.tasks: 'pr' appears twice"),
    ("methods.chosen.choose.alphas", "0.1:1:0.1", "must include 0, because gains are relative to alpha 0"),
    ("methods.chosen.choose.among", "stable_ft", "methods.chosen.choose.among: 'stable_ft' is not defined. Allowed here: speech_ft"),
    ("methods.chosen.choose.rule", "worst", "methods.chosen.choose.rule"),
    ("methods.chosen.recipe", {}, "`alpha: dev` in the recipe needs `choose`"),
    ("methods.speech_ft.recipe", {"alpha": "dev"}, "`alpha: dev` in the recipe needs `choose`"),
    ("methods.early20.of", "speech_ft", "methods.early20.of: 'speech_ft' is not defined. Allowed here: stable_ft"),
    ("methods.plain_ft.changes", {"lr": 1}, "methods.plain_ft.changes: 'lr'"),
    ("methods.plain@x", {"kind": "finetune", "label": "P"}, "methods.plain@x: only merges can have @ in their name"),
    ("methods.ties.recipe.method", "tise", "Unknown merge method 'tise'. Did you mean 'ties'? Available: "),
    ("methods.ties.recipe.parameters", {"densty": 1}, "densty: unknown key; did you mean 'density'?"),
    # tasks
    ("tasks.ks.corpus", "keyword", "tasks.ks.corpus: 'keyword' is not defined"),
    ("tasks.ks.recipe.seeds", [1, -1], "seeds.1"),
    ("tasks.ks.recipe.protocol", ..., "steps=2000 is not SUPERB's (200000); write `protocol: quick`"),
    ("tasks.sid.recipe.crop_draws", "evry", "  crop_draws: "),
    # tables
    ("tables.demo.methods", ["speechft"], "tables.demo.methods: 'speechft' is not defined"),
    ("tables.demo.methods", ["speech_ft@0.5"], "tables.demo.methods: 'speech_ft@0.5': write speech_ft@0.50"),
    ("tables.demo.methods", ["speech_ft@1.50"], "tables.demo.methods: 'speech_ft@1.50': alpha must be from 0 to 1"),
    ("tables.demo.methods", ["stable_ft@0.50"], "tables.demo.methods: 'stable_ft@0.50' is not defined"),
    ("tables.demo.tasks", ["er"], "tables.demo.tasks: 'er' is not defined"),
    ("tables.scored.score.floor", "mfcc", "score.floor: 'mfcc' has no pre-trained row in this table; encoders with one: fb"),
    ("tables.scored.score.tasks", ["er"], "tables.scored.score.tasks: 'er' is not defined"),
    ("tables.combined.methods", ["stable_ft"], "'stable_ft' trains, but 'pr+sid' is a combination"),
    ("tables.combined.methods", ["slerp"], "merges by slerp, which cannot merge 2 model(s) as in 'pr+sid'"),
    ("tables.rows.finetunings", ["sid"], "give either `finetunings` or `rows`"),
    ("tables.rows.rows", ..., "give either `finetunings` or `rows`"),
    ("tables.rows.methods", ["stable_ft"], "methods: `rows` already name the method of each row"),
    ("tables.rows.rows.3", {"model": "none/pretrained"}, "rows: none/pretrained appears twice"),
    ("tables.rows.rows.3", {"model": "er/stable_ft"}, "tables.rows.rows: 'er' is not defined"),
    ("tables.rows.rows.3", {"model": "sid/tise"}, "tables.rows.rows: 'tise' is not defined"),
    ("tables.rows.rows.3", {"model": "sid/speech_ft@0.5"}, "write speech_ft@0.50"),
    ("tables.rows.rows.3", {"model": "sid/pretrained"}, "the pre-trained encoder is none/pretrained, not sid"),
    ("tables.rows.rows.3", {"model": "pr+sid/stable_ft"}, "'stable_ft' trains, but 'pr+sid' is a combination"),
    ("tables.rows.rows.3", {"model": "stable_ft"}, "tables.rows.rows.3.model"),
    ("tables.rows.rows.3", {"modle": "x/y"}, "did you mean 'model'?"),
    # curves and analyses
    ("curves.alpha.encoder", "fbank", "curves.alpha.encoder: 'fbank' is not defined. Allowed here: hubert_demo"),
    ("curves.alpha.finetuning", "x", "curves.alpha.finetuning: 'x' is not defined"),
    ("curves.alpha.method", "stable_ft", "curves.alpha.method: 'stable_ft' is not defined"),
    ("curves.alpha.tasks", ["pr", "er"], "curves.alpha.tasks: 'er' is not defined"),
    ("curves.alpha.alphas", "0:1", "curves.alpha.alphas: '0:1' is not a range such as 0:1:0.1"),
    ("curves.alpha.alphas", [0, 1.5], "curves.alpha.alphas.1: Input should be less than or equal to 1"),
    ("curves.alpha.alphas", [0, 0.5, 0.5], "curves.alpha.alphas: an alpha appears twice"),
    ("curves.demo", {"encoder": "hubert_demo", "finetuning": "sid", "tasks": ["pr"]}, "curves.demo: a table has this name"),
    ("curves.line.kind", "line", "curves.line: Input tag 'line'"),
    ("curves.line.finetuning", "unlabelled", "curves.line.finetuning: 'unlabelled' trains no head here; name a fine-tuning on a task"),
    ("curves.line.finetuning", "pr+sid", "curves.line.finetuning: 'pr+sid' trains no head here"),
    ("curves.line.finetuning", "sidd", "curves.line.finetuning: 'sidd' is not defined"),
    ("curves.between.start", "then_sid/early", "curves.between.start: 'early' is not defined"),
    (
        "finetunings.sid.recipe",
        {"task": "asv", "updates": 9},
        "'sid' is on asv, whose scores are not sums over utterances",
    ),
    ("curves.line.finetuning", "joint", "'joint' trains on several tasks; name a fine-tuning on a single one"),
    ("curves.line.method", "speech_ft", "curves.line.method: 'speech_ft' trains no head; name a method of kind finetune"),
    ("curves.line.start", "pr_sentences/stable_ft", "curves.line.start: is also the model at alpha 1; name another model"),
    ("curves.line.start", "none/stable_ft", "curves.line.start: 'none' is not defined"),
    ("curves.line.alphas", [0, 0.5], "curves.line.alphas: must include 0 and 1"),
    ("curves.line.tasks", ["pr"], "tasks: unknown key"),
    ("analyses.features.encoder", "hubert", "analyses.features.encoder: 'hubert' is not defined"),
    ("analyses.features.corpus", "words", "analyses.features.corpus: 'words' is not defined"),
    ("analyses.features.rows", [], "analyses.features.rows"),
    ("analyses.features.rows.2", {"model": "er/stable_ft"}, "analyses.features.rows: 'er' is not defined"),
    ("analyses.features.rows.2", {"model": "sid/tise"}, "analyses.features.rows: 'tise' is not defined"),
    ("analyses.features.recipe.utterance", 3, "did you mean 'utterances'?"),
    (
        "analyses.alpha",
        {"encoder": "hubert_demo", "corpus": "keywords", "rows": [{"model": "sid/stable_ft"}]},
        "analyses.alpha: a table or curve has this name",
    ),
]


def message(values):
    with pytest.raises(ConfigError) as caught:
        parse_experiment(values, "my.yaml")
    return str(caught.value)


@pytest.mark.parametrize(("path", "value", "expected"), MISTAKES)
def test_mistakes_are_named(path, value, expected):
    values = full_values()
    put(values, path, value)
    text = message(values)
    assert text.startswith("my.yaml: ")
    assert expected in text


def test_all_problems_come_at_once():
    values = demo_values()
    for path, value in (("corpora.keywords.pth", "x"), ("finetunings.pr_sentences.recipe.updates", 0), ("color", "blue")):
        put(values, path, value)
    assert message(values).startswith("my.yaml: 3 problems")
    values = full_values()
    for curve in ("alpha.encoder", "alpha.finetuning"):
        put(values, f"curves.{curve}", "x")
    heading, *lines = message(values).splitlines()
    assert heading == "my.yaml: 2 problems"
    assert [line.partition(": ")[0] for line in lines] == ["  curves.alpha.encoder", "  curves.alpha.finetuning"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "no such file"),
        ("- 1", "an experiment must be a mapping"),
        ("results: [x", "is not valid YAML"),
        ("? [a]\n: b", ""),
        ("results: 2024-13-45", ""),
        ("[" * 5000, ""),
        (f"results: {'9' * 5000}", ""),
    ],
)
def test_files_that_are_no_experiment_are_one_error(text, expected, tmp_path):
    if text is not None:
        (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"e\.yaml: .*{expected}"):
        load_experiment(tmp_path / "e.yaml")
