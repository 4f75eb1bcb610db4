# Cells -> tables beside the published numbers, and figures.


rule table:
    input:
        recipe=f"{RESULTS}/recipes/tables/{{table}}.json",
        cells=lambda wildcards: flow.cells(wildcards.table),
        published="config/published.csv",
    output:
        multiext(f"{RESULTS}/tables/{{table}}", ".csv", ".md", ".tex", ".html"),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    conda:
        "../envs/speechft.yaml"
    params:
        out=subpath(output[0], parent=True),
    shell:
        "speechft tables {input.recipe} {input.cells} --published {input.published} --out {params.out} > {log} 2>&1"


rule figure:
    input:
        recipe=f"{RESULTS}/recipes/tables/{{table}}.json",
        cells=lambda wildcards: flow.cells(wildcards.table),
    output:
        png=f"{RESULTS}/figures/{{table}}.png",
        svg=f"{RESULTS}/figures/{{table}}.svg",
    log:
        f"{RESULTS}/logs/figures/{{table}}.log",
    conda:
        "../envs/speechft.yaml"
    shell:
        "speechft figure {input.recipe} {input.cells} --out {output.png} > {log} 2>&1"
