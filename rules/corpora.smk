# Corpora on disk -> lhotse manifests: one folder per corpus, one file per split.
# `update`: Snakemake does not remove an existing folder; `speechft` replaces older manifests and nothing else.


rule manifests:
    input:
        recipe=f"{RESULTS}/recipes/corpora/{{corpus}}.json",
        tables=lambda wildcards: flow.corpus_tables(wildcards.corpus),
    output:
        update(directory(f"{RESULTS}/corpora/{{corpus}}")),
    log:
        f"{RESULTS}/logs/corpora/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/corpora/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=one_of(flow.listed_corpora),
    threads: flow.resources("small").threads
    resources:
        mem_mb=flow.memory("small"),
        runtime=flow.minutes("small"),
    shell:
        "job {log:q} speechft prepare --recipe {input.recipe:q} --out {output:q} --threads {threads}"


rule unite:
    input:
        recipe=f"{RESULTS}/recipes/corpora/{{corpus}}.json",
        manifests=lambda wildcards: flow.union_members(wildcards.corpus),
    output:
        update(directory(f"{RESULTS}/corpora/{{corpus}}")),
    log:
        f"{RESULTS}/logs/corpora/{{corpus}}.log",
    wildcard_constraints:
        corpus=one_of(flow.unions),
    localrule: True
    shell:
        "speechft unite {input.manifests:q} --out {output:q} > {log:q} 2>&1"
