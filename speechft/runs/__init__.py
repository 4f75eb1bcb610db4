"""Workflow runs in retrospect: Snakemake's log, logs of jobs, failures and the jobs they blocked. No torch here."""
