# Stage 1: fine-tune theta0, or the model of an earlier round, with a head for each task on fairseq's trainer.


rule finetune:
    input:
        recipe=f"{RESULTS}/recipes/finetune/{{finetuning}}/{{method}}.json",
        encoder=lambda wildcards: flow.start(wildcards.encoder, wildcards.finetuning),
        manifests=lambda wildcards: flow.finetuning_corpora(wildcards.finetuning),
        lexicons=lambda wildcards: flow.finetuning_lexicons(wildcards.finetuning, wildcards.method),
    output:
        flow.model_files("{encoder}", "{finetuning}", "{method}"),
        training=f"{flow.model('{encoder}', '{finetuning}', '{method}')}/training.csv",
        early=directory(f"{flow.model('{encoder}', '{finetuning}', '{method}')}/early"),
    log:
        f"{RESULTS}/logs/finetune/{{encoder}}/{{finetuning}}/{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{encoder}}/{{finetuning}}/{{method}}.tsv"
    wildcard_constraints:
        finetuning=one_of(flow.labelled_finetunings),
        method=one_of(flow.trained_methods),
    threads: flow.resources("finetune").threads
    resources:
        mem_mb=flow.memory("finetune"),
        runtime=flow.minutes("finetune"),
        gpu=flow.gpus("finetune"),
        cache_gb=flow.resources("finetune").cache_gb,
    params:
        encoder=subpath(input.encoder, parent=True),
        out=subpath(output[0], parent=True),
        jointly=lambda wildcards: flow.joint_options(wildcards.finetuning),
        scalars=f"{RESULTS}/tensorboard/{{encoder}}/{{finetuning}}/{{method}}",
    shell:
        "job {log:q} speechft finetune {params.encoder:q} {input.manifests[0]:q} {params.jointly:q} --recipe {input.recipe:q} --out {params.out:q}"
        " --tensorboard {params.scalars:q} --cache-gb {resources.cache_gb} --threads {threads} --gpus {resources.gpu}"


# An early checkpoint is a by-product of another method's run; this rule makes it a model.
rule early:
    input:
        finetuned=lambda wildcards: flow.early_source(**wildcards),
    output:
        flow.model_files("{encoder}", "{finetuning}", "{method}"),
    log:
        f"{RESULTS}/logs/early/{{encoder}}/{{finetuning}}/{{method}}.log",
    wildcard_constraints:
        finetuning=one_of(flow.labelled_finetunings),
        method=one_of(flow.early_methods),
    localrule: True
    params:
        finetuned=subpath(input.finetuned, parent=True),
        share=lambda wildcards: flow.early_share(wildcards.method),
        out=subpath(output[0], parent=True),
    shell:
        "speechft early {params.finetuned:q} --share {params.share:q} --out {params.out:q} > {log:q} 2>&1"
