# Cells -> tables beside the published numbers, curves over alpha, and figures.


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
        "speechft tables {input.recipe:q} {input.cells:q} --published {input.published:q} --out {params.out:q} > {log:q} 2>&1"


rule differences:
    input:
        recipe=f"{RESULTS}/recipes/tables/{{table}}.json",
        cells=lambda wildcards: flow.cells(wildcards.table),
    output:
        multiext(f"{RESULTS}/tables/differences/{{table}}", ".csv", ".md", ".tex", ".html"),
        multiext(f"{RESULTS}/figures/differences/{{table}}", ".png", ".svg"),
    log:
        f"{RESULTS}/logs/differences/{{table}}.log",
    conda:
        "../envs/speechft.yaml"
    params:
        tables=subpath(output[0], parent=True),
        figures=subpath(output[4], parent=True),
    shell:
        "speechft differences {input.recipe:q} {input.cells:q} --out {params.tables:q} --figures {params.figures:q} > {log:q} 2>&1"


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
        "speechft figure {input.recipe:q} {input.cells:q} --out {output.png:q} > {log:q} 2>&1"


rule curve:
    input:
        recipe=f"{RESULTS}/recipes/curves/{{curve}}.json",
        cells=lambda wildcards: flow.curve_cells(wildcards.curve),
    output:
        multiext(f"{RESULTS}/tables/{{curve}}", ".csv", ".md"),
        multiext(f"{RESULTS}/figures/{{curve}}", ".png", ".svg"),
    log:
        f"{RESULTS}/logs/curves/{{curve}}.log",
    conda:
        "../envs/speechft.yaml"
    params:
        tables=subpath(output[0], parent=True),
        figures=subpath(output[2], parent=True),
    shell:
        "speechft curve {input.recipe:q} {input.cells:q} --out {params.tables:q} --figures {params.figures:q} > {log:q} 2>&1"
