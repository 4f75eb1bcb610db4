# theta0: encoders that are pre-trained, imported from checkpoints, or computed (filterbanks).


rule pretrain:
    input:
        recipe=f"{RESULTS}/recipes/pretrain/{{encoder}}.json",
        manifests=lambda wildcards: flow.pretraining_corpora(**wildcards),
        encoders=lambda wildcards: flow.pretraining_encoders(**wildcards),
    output:
        flow.model_files("{encoder}", "none", "pretrained"),
        training=f"{flow.model('{encoder}', 'none', 'pretrained')}/training.csv",
    log:
        f"{RESULTS}/logs/pretrain/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=one_of(flow.pretrained_here),
    threads: flow.resources("pretrain").threads
    resources:
        mem_mb=flow.memory("pretrain"),
        runtime=flow.minutes("pretrain"),
        gpu=flow.gpus("pretrain"),
    params:
        out=subpath(output[0], parent=True),
        options=lambda wildcards: flow.pretraining_options(**wildcards),
    shell:
        "job {log:q} speechft pretrain {input.manifests:q} --recipe {input.recipe:q} {params.options:q} --out {params.out:q}"
        " --threads {threads} --gpus {resources.gpu}"


rule fbank:
    input:
        recipe=f"{RESULTS}/recipes/fbank/{{encoder}}.json",
    output:
        flow.model_files("{encoder}", "none", "pretrained"),
    log:
        f"{RESULTS}/logs/fbank/{{encoder}}.log",
    wildcard_constraints:
        encoder=one_of(flow.filterbanks),
    localrule: True
    params:
        out=subpath(output[0], parent=True),
    shell:
        "speechft fbank --recipe {input.recipe:q} --out {params.out:q} > {log:q} 2>&1"


# Checkpoints and lexicons of PR; the only rule that uses the network. An existing file is kept (`update`) and only verified.
rule fetch:
    output:
        update("{public}"),
    log:
        f"{RESULTS}/logs/fetch/{{public}}.log",
    wildcard_constraints:
        public=one_of(flow.public_files),
    localrule: True
    params:
        file=lambda wildcards: flow.public_files[wildcards.public],
    shell:
        "speechft fetch {params.file:q} --out {output:q} > {log:q} 2>&1"


rule import_checkpoint:
    input:
        checkpoint=lambda wildcards: flow.checkpoint(**wildcards),
        settings=lambda wildcards: flow.import_settings(**wildcards),
    output:
        flow.model_files("{encoder}", "none", "pretrained"),
    log:
        f"{RESULTS}/logs/import/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/import/{{encoder}}.tsv"
    wildcard_constraints:
        encoder=one_of(flow.imported),
    threads: flow.resources("small").threads
    resources:
        mem_mb=flow.memory("small"),
        runtime=flow.minutes("small"),
    params:
        out=subpath(output[0], parent=True),
        options=lambda wildcards: flow.import_options(**wildcards),
    shell:
        "job {log:q} speechft import {input.checkpoint:q} --out {params.out:q} {params.options:q}"


# A fine-tuning given as a checkpoint; a bare state dict gets the configuration of the encoder that it was fine-tuned from.
rule import_finetuned:
    input:
        checkpoint=lambda wildcards: flow.given_checkpoint(wildcards.finetuning),
        encoder=lambda wildcards: flow.start(wildcards.encoder, wildcards.finetuning),
    output:
        flow.model_files("{encoder}", "{finetuning}", "finetuned"),
    log:
        f"{RESULTS}/logs/import/{{encoder}}/{{finetuning}}.log",
    wildcard_constraints:
        finetuning=one_of(flow.experiment.given),
    threads: flow.resources("small").threads
    resources:
        mem_mb=flow.memory("small"),
        runtime=flow.minutes("small"),
    params:
        encoder=subpath(input.encoder, parent=True),
        out=subpath(output[0], parent=True),
        options=lambda wildcards: flow.given_options(wildcards.finetuning),
    shell:
        "job {log:q} speechft import {input.checkpoint:q} --like {params.encoder:q} --out {params.out:q} {params.options:q}"
