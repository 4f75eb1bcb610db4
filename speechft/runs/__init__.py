"""Runs of the workflow, read afterwards: Snakemake's log, the logs of jobs, and what a failure kept from starting. No torch here."""
