# Cells -> tables with published numbers, curves over alpha, and figures.
# `update`: the command itself replaces what it recognizes as its own, and nothing else.


rule table:
    input:
        recipe=f"{RESULTS}/recipes/tables/{{table}}.json",
        cells=lambda wildcards: flow.cells(**wildcards),
        published=flow.published,
    output:
        update(f"{RESULTS}/tables/{{table}}.csv"),
        multiext(f"{RESULTS}/tables/{{table}}", ".md", ".tex"),
        report(f"{RESULTS}/tables/{{table}}.html", caption="report/table.rst", category="Tables", labels={"table": "{table}"}),
    log:
        f"{RESULTS}/logs/tables/{{table}}.log",
    localrule: True
    params:
        published=flow.published_options,
        out=subpath(output[0], parent=True),
    shell:
        "speechft report table {input.recipe:q} {input.cells:q} {params.published:q} --out {params.out:q} > {log:q} 2>&1"


rule differences:
    input:
        recipe=f"{RESULTS}/recipes/tables/{{table}}.json",
        cells=lambda wildcards: flow.cells(**wildcards),
    output:
        update(f"{RESULTS}/tables/differences/{{table}}.csv"),
        multiext(f"{RESULTS}/tables/differences/{{table}}", ".md", ".tex"),
        report(
            f"{RESULTS}/tables/differences/{{table}}.html",
            caption="report/differences.rst",
            category="Differences",
            labels={"table": "{table}"},
        ),
        report(
            update(f"{RESULTS}/figures/differences/{{table}}.png"),
            caption="report/differences.rst",
            category="Differences",
            labels={"figure": "{table}"},
        ),
        update(f"{RESULTS}/figures/differences/{{table}}.svg"),
    log:
        f"{RESULTS}/logs/differences/{{table}}.log",
    localrule: True
    params:
        tables=subpath(output[0], parent=True),
        figures=subpath(output[4], parent=True),
    shell:
        "speechft report differences {input.recipe:q} {input.cells:q} --out {params.tables:q} --figures {params.figures:q} > {log:q} 2>&1"


rule figure:
    input:
        recipe=f"{RESULTS}/recipes/tables/{{table}}.json",
        cells=lambda wildcards: flow.cells(**wildcards),
    output:
        png=report(update(f"{RESULTS}/figures/{{table}}.png"), caption="report/figure.rst", category="Tables", labels={"figure": "{table}"}),
        svg=update(f"{RESULTS}/figures/{{table}}.svg"),
    log:
        f"{RESULTS}/logs/figures/{{table}}.log",
    localrule: True
    shell:
        "speechft report figure {input.recipe:q} {input.cells:q} --out {output.png:q} > {log:q} 2>&1"


rule curve:
    input:
        recipe=f"{RESULTS}/recipes/curves/{{curve}}.json",
        cells=lambda wildcards: flow.curve_cells(**wildcards),
    output:
        update(f"{RESULTS}/tables/{{curve}}.csv"),
        f"{RESULTS}/tables/{{curve}}.md",
        report(
            update(f"{RESULTS}/figures/{{curve}}.png"),
            caption="report/alpha.rst",
            category="Curves over alpha",
            labels={"figure": "{curve}"},
        ),
        update(f"{RESULTS}/figures/{{curve}}.svg"),
    log:
        f"{RESULTS}/logs/curves/{{curve}}.log",
    localrule: True
    params:
        tables=subpath(output[0], parent=True),
        figures=subpath(output[2], parent=True),
    shell:
        "speechft report alpha {input.recipe:q} {input.cells:q} --out {params.tables:q} --figures {params.figures:q} > {log:q} 2>&1"


# The whole experiment on one page that needs no network; rebuilt when any of its results changes.
rule page:
    input:
        recipe=f"{RESULTS}/recipes/report.json",
        results=flow.report_inputs(),
        published=flow.published,
    output:
        report(update(f"{RESULTS}/report.html"), caption="report/page.rst", category="Report"),
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    params:
        published=flow.published_options,
        results=subpath(output[0], parent=True),
    shell:
        "speechft report page {input.recipe:q} --results {params.results:q} {params.published:q} --out {output:q} > {log:q} 2>&1"
