# Entry of the workflow: configuration, rules, public targets. `snakemake --help` lists options; the README shows the usual commands.
from snakemake.logging import logger
from snakemake.utils import min_version

from speechft.runtime.slurm import forget_run
from speechft.runtime.slurm import note_run
from speechft.experiment.schema import parse_experiment
from speechft.files.structured import check_experiments
from speechft.runs.hooks import describe_failures

# Another name: a Snakefile runs among the names of Snakemake's own module, which has a `Workflow` too.
from speechft.experiment.workflow import Workflow as ExperimentWorkflow

min_version("9.0")

if not config:

    configfile: "config/paper.yaml"


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


# Who works here, for `speechft resume`: jobs of a Snakemake that runs on another machine are not cancelled.
onstart:
    note_run()


onsuccess:
    forget_run()


# The last word of a run that fails: each failed job and why. It goes to the terminal and into Snakemake's log.
onerror:
    forget_run()
    if failures := describe_failures(workflow, log):
        logger.error(failures)


rule all:
    default_target: True
    input:
        flow.targets(),
    localrule: True
