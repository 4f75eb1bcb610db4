# Stage 3: train and score a task's head on the frozen encoder, one cell per job.


rule evaluate:
    input:
        recipe=f"{RESULTS}/recipes/evaluate/{{task}}.json",
        model=flow.weights("{encoder}", "{finetuning}", "{method}"),
        manifests=lambda wildcards: flow.corpus(flow.experiment.tasks[wildcards.task].corpus),
        lexicons=lambda wildcards: flow.evaluation_lexicons(wildcards.task),
    output:
        # `update`: an old cell stays until the new one replaces it, and remains if that job fails.
        update(f"{RESULTS}/cells/{{encoder}}/{{finetuning}}/{{method}}/{{task}}.json"),
    log:
        f"{RESULTS}/logs/evaluate/{{encoder}}/{{finetuning}}/{{method}}/{{task}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{encoder}}/{{finetuning}}/{{method}}/{{task}}.tsv"
    wildcard_constraints:
        encoder=one_of([name for name in flow.experiment.encoders if name not in flow.modules]),
    threads: flow.resources("evaluate").threads
    resources:
        mem_mb=flow.memory("evaluate"),
        runtime=flow.minutes("evaluate"),
        gpu=flow.gpus("evaluate"),
    params:
        model=subpath(input.model, parent=True),
        name="{encoder}/{finetuning}/{method}",
        work=f"{RESULTS}/work/evaluate",
    shell:
        "job {log:q} speechft evaluate {params.model:q} {wildcards.task:q} {input.manifests:q} --recipe {input.recipe:q} --out {output:q}"
        " --name {params.name:q} --work-dir {params.work:q} --threads {threads} --gpus {resources.gpu}"


# A frozen model of the user's own, whose source stands in the place of weights. A rule beside the other: with other `params` that one would
# make all cells again that were made before.
use rule evaluate as evaluate_module with:
    input:
        recipe=f"{RESULTS}/recipes/evaluate/{{task}}.json",
        model=lambda wildcards: flow.module(wildcards.encoder).inputs,
        manifests=lambda wildcards: flow.corpus(flow.experiment.tasks[wildcards.task].corpus),
        lexicons=lambda wildcards: flow.evaluation_lexicons(wildcards.task),
    wildcard_constraints:
        encoder=one_of(flow.modules),
        finetuning="none",
        method="pretrained",
    params:
        model=lambda wildcards: flow.module(wildcards.encoder).arguments,
        name="{encoder}/{finetuning}/{method}",
        work=f"{RESULTS}/work/evaluate",
