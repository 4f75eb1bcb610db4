# Stage 2: interpolate theta0 and a fine-tuned encoder, or several of a combination.


rule merge:
    input:
        recipe=f"{RESULTS}/recipes/merge/{{method}}.json",
        encoder=lambda wildcards: flow.start(wildcards.encoder, wildcards.finetuning),
        finetuned=lambda wildcards: flow.merge_sources(**wildcards),
        corpora=lambda wildcards: flow.experiment.merge_corpora(wildcards.method),
    output:
        flow.model_files("{encoder}", "{finetuning}", "{method}"),
    log:
        f"{RESULTS}/logs/merge/{{encoder}}/{{finetuning}}/{{method}}.log",
    wildcard_constraints:
        finetuning=one_of(flow.merged_names),
        method=flow.merge_pattern,
    localrule: True
    params:
        encoder=subpath(input.encoder, parent=True),
        finetuned=lambda wildcards: flow.merge_models(**wildcards),
        out=subpath(output[0], parent=True),
    shell:
        "speechft merge {params.encoder:q} {params.finetuned:q} --recipe {input.recipe:q} --out {params.out:q} > {log:q} 2>&1"


# Choose the alpha of a merge with `alpha: dev` by dev scores of models along it.
rule choose:
    input:
        recipe=f"{RESULTS}/recipes/choose/{{encoder}}/{{finetuning}}/{{method}}.json",
        cells=lambda wildcards: flow.choice_cells(**wildcards),
    output:
        update(f"{RESULTS}/choices/{{encoder}}/{{finetuning}}/{{method}}.json"),
    log:
        f"{RESULTS}/logs/choose/{{encoder}}/{{finetuning}}/{{method}}.log",
    wildcard_constraints:
        finetuning=one_of(flow.merged_names),
        method=one_of(flow.chosen_methods),
    localrule: True
    shell:
        "speechft choose {input.recipe:q} {input.cells:q} --out {output:q} > {log:q} 2>&1"


# A separate rule, because changing the command of `merge` would rerun all existing merges.
rule merge_chosen:
    input:
        recipe=f"{RESULTS}/recipes/merge/{{method}}.json",
        encoder=lambda wildcards: flow.start(wildcards.encoder, wildcards.finetuning),
        finetuned=lambda wildcards: flow.merge_sources(**wildcards),
        corpora=lambda wildcards: flow.experiment.merge_corpora(wildcards.method),
        choice=rules.choose.output,
    output:
        flow.model_files("{encoder}", "{finetuning}", "{method}"),
    log:
        f"{RESULTS}/logs/merge/{{encoder}}/{{finetuning}}/{{method}}.log",
    wildcard_constraints:
        finetuning=one_of(flow.merged_names),
        method=one_of(flow.chosen_methods),
    localrule: True
    params:
        encoder=subpath(input.encoder, parent=True),
        finetuned=lambda wildcards: flow.merge_models(**wildcards),
        out=subpath(output[0], parent=True),
    shell:
        "speechft merge {params.encoder:q} {params.finetuned:q} --recipe {input.recipe:q} --choice {input.choice:q} --out {params.out:q} > {log:q} 2>&1"
