"""What an experiment costs (`speechft plan`): jobs, audio through the encoder, hours, disk. How it is counted is in docs/cost.md.

Nothing but `calibration` needs torch, so that plans can be made on a login node.
"""
