"""Runs of the workflow, read afterwards: Snakemake's log, the logs of jobs, and what a failure kept from starting. No torch here."""

from speechft.runs.last_words import last_words
from speechft.runs.log import Job, RunLog, newest_log, parse_log, read_log
from speechft.runs.report import Failure, failures_of, print_failures, print_summary, summary

__all__ = [
    "Failure",
    "Job",
    "RunLog",
    "failures_of",
    "last_words",
    "newest_log",
    "parse_log",
    "print_failures",
    "print_summary",
    "read_log",
    "summary",
]
