# Settings shared by all rules, and the recipe files that all jobs depend on.
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from speechft.runtime.slurm import prefer_commands
from speechft.runtime.slurm import quote_python
from speechft.files.locks import LOCK_SECONDS
from speechft.runs import warm
from speechft.runs.refusals import RUN
from speechft.runs.refusals import run_name
from speechft.experiment.workflow import MODEL_FILES
from speechft.experiment.names import one_of

RESULTS = flow.results
# The folder of this file, even if another workflow includes it.
RULES = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))

if set("{}") & set(str(workflow.basedir)):
    raise WorkflowError(f"{workflow.basedir}: Snakemake reads braces in a path as wildcards. Move the repository to a folder without them.")

# Only the rule `fetch` uses the network, which compute nodes often do not have: libraries must not even try.
PREFIX = "set -euo pipefail; export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1; "

# Jobs call the `speechft` next to the Python that runs Snakemake, whether or not the environment is activated.
PREFIX += f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
if workflow.is_main_process and os.environ.get(warm.VARIABLE, "0") not in ("", "0"):
    PREFIX += f'export PATH={shlex.quote(str(warm.start()))}:"$PATH"; '

# Two jobs with the same output exist only if a killed run left one behind: the second waits, then finds the work done.
PREFIX += f"export {LOCK_SECONDS}=1000000; "

# The shell function `job` runs a command with its output in a log, unless the job already had a permanent error in this run.
PREFIX += f"export {RUN}={run_name()}; . {shlex.quote(str(RULES / 'job.sh'))}; "
# Snakemake formats the prefix, but braces in it belong to folder names.
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))
flow.log_file = lambda rule, wildcards: getattr(rules, rule).log[0].format(**wildcards)

# On Slurm, Snakemake asks through commands that tolerate an unreachable slurmctld.
prefer_commands(RULES.parent / "slurm/bin")
quote_python()


wildcard_constraints:
    corpus=one_of(flow.experiment.corpora),
    encoder=one_of(flow.experiment.encoders),
    finetuning=one_of(["none", *flow.merged_names]),
    method=flow.method_pattern,
    task=one_of(flow.experiment.tasks),
    table=one_of(flow.experiment.tables),
    curve=one_of(flow.experiment.alpha_curves),
    connection=one_of(flow.experiment.connections),
    analysis=one_of(flow.experiment.analyses),


# The part of the configuration that one job uses. It is rewritten only if that part changes, so that nothing else reruns.
rule recipe:
    output:
        f"{RESULTS}/recipes/{{recipe}}.json",
    log:
        f"{RESULTS}/logs/recipes/{{recipe}}.log",
    wildcard_constraints:
        recipe=r"[\w+@./-]+",
    localrule: True
    params:
        text=lambda wildcards: flow.recipe(wildcards.recipe),
    shell:
        "printf '%s\\n' {params.text:q} > {output:q}.tmp 2> {log:q} && mv {output:q}.tmp {output:q}"
