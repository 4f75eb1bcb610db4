# Corpora on disk -> lhotse manifests, one folder a corpus with a file for each split.


rule manifests:
    input:
        recipe=f"{RESULTS}/recipes/corpora/{{corpus}}.json",
        table=lambda wildcards: str(flow.experiment.corpora[wildcards.corpus].path),
    output:
        directory(f"{RESULTS}/corpora/{{corpus}}"),
    log:
        f"{RESULTS}/logs/corpora/{{corpus}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/corpora/{{corpus}}.tsv"
    conda:
        "../envs/speechft.yaml"
    threads: flow.resources("small").threads
    resources:
        mem_mb=flow.resources("small").mem_mb,
        runtime=flow.resources("small").runtime,
    shell:
        "speechft prepare --recipe {input.recipe} --out {output} > {log} 2>&1"
