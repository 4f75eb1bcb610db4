"""Cost of an experiment (`speechft plan`): jobs, audio processed, hours, disk. docs/cost.md explains the estimates.

Only `calibration` needs torch, so that plans work on a login node.
"""
