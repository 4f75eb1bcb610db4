# Entry point of the workflow: configuration, rules, targets. `snakemake --help` lists options; the README shows the usual commands.
from snakemake.utils import min_version

from speechft.experiment.schema import parse_experiment
from speechft.files.structured import check_experiments
from speechft.runs.hooks import ended
from speechft.runs.hooks import failed
from speechft.runs.hooks import started
from speechft.shipped import shipped

# Renamed, because a Snakefile runs in the namespace of Snakemake's own module, which also has a `Workflow`.
from speechft.experiment.workflow import Workflow as ExperimentWorkflow

min_version("9.0")

if not config:

    configfile: str(shipped("config/paper.yaml"))


sources = list(map(str, workflow.configfiles))
check_experiments(sources)
flow = ExperimentWorkflow(parse_experiment(config, ", ".join(sources)), sources)


include: "rules/common.smk"
include: "rules/corpora.smk"
include: "rules/encoders.smk"
include: "rules/finetune.smk"
include: "rules/unsupervised.smk"
include: "rules/merge.smk"
include: "rules/evaluate.smk"
include: "rules/tables.smk"
include: "rules/analysis.smk"
include: "rules/mini.smk"


# A Snakefile that uses this one as a module must repeat these three handlers: Snakemake only uses those of the main Snakefile.
onstart:
    started()


onsuccess:
    ended()


onerror:
    failed(workflow, log)


rule all:
    default_target: True
    input:
        flow.targets(),
    localrule: True
