# Reproduce the encoders in mini/encoders: recordings, pre-training, half-precision copies, training curves. Also: recorded words.


rule mini_encoders:
    input:
        [f"mini/encoders/{name}/model.safetensors" for name in flow.stored],
        f"{RESULTS}/figures/pretraining.png" if flow.stored else [],
    localrule: True


# Needs the network, like `fetch`. Existing files are kept.
rule recordings:
    output:
        "mini/recordings/recordings.csv",
    log:
        "mini/recordings/fetch.log",
    localrule: True
    shell:
        "python mini/fetch_recordings.py > {log:q} 2>&1"


# The corpora of config/recorded.yaml. Needs the network; existing files are kept.
rule words:
    output:
        update("mini/words/digits.csv"),
        update("mini/words/keywords.csv"),
    log:
        "mini/words/fetch.log",
    localrule: True
    shell:
        "python mini/fetch_words.py > {log:q} 2>&1"


rule store:
    input:
        lambda wildcards: flow.weights(flow.stored[wildcards.stored], "none", "pretrained"),
    output:
        [f"mini/encoders/{{stored}}/{name}" for name in MODEL_FILES],
    log:
        f"{RESULTS}/logs/store/{{stored}}.log",
    wildcard_constraints:
        stored=one_of(flow.stored),
    localrule: True
    params:
        model=subpath(input[0], parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "speechft store {params.model:q} --out {params.out:q} > {log:q} 2>&1"


rule training_curves:
    input:
        flow.pretraining_logs(),
    output:
        png=report(f"{RESULTS}/figures/pretraining.png", caption="report/training.rst", category="Training"),
        svg=f"{RESULTS}/figures/pretraining.svg",
    log:
        f"{RESULTS}/logs/figures/pretraining.log",
    localrule: True
    shell:
        "speechft report training {input:q} --out {output.png:q} > {log:q} 2>&1"
