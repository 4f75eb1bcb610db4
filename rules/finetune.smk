# Stage 1: fine-tune theta0 with a task head on fairseq's trainer.


rule finetune:
    input:
        recipe=f"{RESULTS}/recipes/finetune/{{finetuning}}/{{method}}.json",
        encoder=flow.weights("{encoder}", "none", "pretrained"),
        manifests=lambda wildcards: flow.corpus(flow.experiment.finetunings[wildcards.finetuning].corpus),
    output:
        flow.model_files("{encoder}", "{finetuning}", "{method}"),
        training=f"{flow.model('{encoder}', '{finetuning}', '{method}')}/training.csv",
    log:
        f"{RESULTS}/logs/finetune/{{encoder}}/{{finetuning}}/{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/finetune/{{encoder}}/{{finetuning}}/{{method}}.tsv"
    wildcard_constraints:
        finetuning=one_of(flow.labelled_finetunings),
        method=one_of(flow.trained_methods),
    conda:
        "../envs/speechft.yaml"
    threads: flow.resources("finetune").threads
    resources:
        mem_mb=flow.resources("finetune").mem_mb,
        runtime=flow.resources("finetune").runtime,
        gpu=flow.resources("finetune").gpu,
    params:
        encoder=subpath(input.encoder, parent=True),
        out=subpath(output[0], parent=True),
    shell:
        "speechft finetune {params.encoder} {input.manifests} --recipe {input.recipe} --out {params.out}"
        " --threads {threads} > {log} 2>&1"
