# Stage 1 without labels: continue the pre-training of theta0 on another corpus.


rule continue_pretraining:
    input:
        recipe=f"{RESULTS}/recipes/finetune/{{finetuning}}/{{method}}.json",
        encoder=lambda wildcards: flow.start(wildcards.encoder, wildcards.finetuning),
        targets=lambda wildcards: flow.continuing_encoders(wildcards.finetuning),
        manifests=lambda wildcards: flow.corpus(flow.experiment.finetunings[wildcards.finetuning].corpus),
    output:
        flow.model_files("{encoder}", "{finetuning}", "{method}"),
        training=f"{flow.model('{encoder}', '{finetuning}', '{method}')}/training.csv",
    log:
        f"{RESULTS}/logs/finetune/{{encoder}}/{{finetuning}}/{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{encoder}}/{{finetuning}}/{{method}}.tsv"
    wildcard_constraints:
        finetuning=one_of(flow.unlabelled_finetunings),
        method=one_of(flow.trained_methods),
    threads: flow.resources("pretrain").threads
    resources:
        mem_mb=flow.memory("pretrain"),
        runtime=flow.minutes("pretrain"),
        gpu=flow.gpus("pretrain"),
    params:
        encoder=subpath(input.encoder, parent=True),
        out=subpath(output[0], parent=True),
        options=lambda wildcards: flow.continuing_options(wildcards.finetuning),
    shell:
        "job {log:q} speechft continue {params.encoder:q} {input.manifests:q} --recipe {input.recipe:q} {params.options:q} --out {params.out:q}"
        " --threads {threads} --gpus {resources.gpu}"
