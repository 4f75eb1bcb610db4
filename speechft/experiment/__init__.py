"""Experiments: the file that a user writes, its checks, and the jobs that it resolves to. No torch here: Snakemake imports this."""
