# How fine-tuning changes an encoder: weight deviation, feature similarity, and loss between two encoders; tables and figures.


rule analyse:
    input:
        recipe=f"{RESULTS}/recipes/analysis/{{analysis}}.json",
        encoder=flow.weights("{encoder}", "none", "pretrained"),
        model=flow.weights("{encoder}", "{finetuning}", "{method}"),
        manifests=lambda wildcards: flow.corpus(flow.experiment.analyses[wildcards.analysis].corpus),
    output:
        update(f"{RESULTS}/analysis/{{analysis}}/{{encoder}}/{{finetuning}}/{{method}}.json"),
    log:
        f"{RESULTS}/logs/analysis/{{analysis}}/{{encoder}}/{{finetuning}}/{{method}}.log",
    threads: flow.resources("evaluate").threads
    resources:
        mem_mb=flow.memory("evaluate"),
        runtime=flow.minutes("evaluate"),
        gpu=flow.gpus("evaluate"),
    params:
        encoder=subpath(input.encoder, parent=True),
        model=subpath(input.model, parent=True),
        name="{encoder}/{finetuning}/{method}",
    shell:
        "job {log:q} speechft analyse {params.encoder:q} {params.model:q} {input.manifests:q} --recipe {input.recipe:q} --out {output:q}"
        " --name {params.name:q} --threads {threads} --gpus {resources.gpu}"


rule similarity:
    input:
        recipe=f"{RESULTS}/recipes/analysis_tables/{{analysis}}.json",
        results=lambda wildcards: flow.analysis_results(**wildcards),
    output:
        update(f"{RESULTS}/tables/{{analysis}}.csv"),
        f"{RESULTS}/tables/{{analysis}}.md",
        report(
            update(f"{RESULTS}/figures/{{analysis}}.png"),
            caption="report/similarity.rst",
            category="Analyses",
            labels={"figure": "{analysis}"},
        ),
        update(f"{RESULTS}/figures/{{analysis}}.svg"),
    log:
        f"{RESULTS}/logs/similarity/{{analysis}}.log",
    localrule: True
    params:
        tables=subpath(output[0], parent=True),
        figures=subpath(output[2], parent=True),
    shell:
        "speechft report similarity {input.recipe:q} {input.results:q} --out {params.tables:q} --figures {params.figures:q} > {log:q} 2>&1"


rule connect:
    input:
        ends=lambda wildcards: [f"{model}/{MODEL_FILES[0]}" for model in flow.connection_models(**wildcards)],
        manifests=lambda wildcards: flow.connection_manifests(**wildcards),
    output:
        update(f"{RESULTS}/connections/{{connection}}.json"),
    log:
        f"{RESULTS}/logs/connect/{{connection}}.log",
    threads: flow.resources("evaluate").threads
    resources:
        mem_mb=flow.memory("evaluate"),
        runtime=flow.minutes("evaluate"),
        gpu=flow.gpus("evaluate"),
    params:
        models=lambda wildcards: flow.connection_models(**wildcards),
        options=lambda wildcards: flow.connection_options(**wildcards),
    shell:
        "job {log:q} speechft connect {params.models:q} {input.manifests:q} {params.options:q} --out {output:q}"
        " --threads {threads} --gpus {resources.gpu}"


rule connection:
    input:
        recipe=f"{RESULTS}/recipes/connections/{{connection}}.json",
        result=f"{RESULTS}/connections/{{connection}}.json",
    output:
        update(f"{RESULTS}/tables/{{connection}}.csv"),
        f"{RESULTS}/tables/{{connection}}.md",
        report(
            update(f"{RESULTS}/figures/{{connection}}.png"),
            caption="report/connection.rst",
            category="Curves",
            labels={"figure": "{connection}"},
        ),
        update(f"{RESULTS}/figures/{{connection}}.svg"),
    log:
        f"{RESULTS}/logs/connection/{{connection}}.log",
    localrule: True
    params:
        tables=subpath(output[0], parent=True),
        figures=subpath(output[2], parent=True),
    shell:
        "speechft report connection {input.recipe:q} {input.result:q} --out {params.tables:q} --figures {params.figures:q} > {log:q} 2>&1"
