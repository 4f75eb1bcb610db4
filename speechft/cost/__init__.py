"""What an experiment costs: jobs, audio through the encoder, hours, disk. Computed from recipes, sizes of corpora and measured speeds.

No torch here but in `calibration`: plans are made on a login node, or on a laptop before there is a cluster. How things are counted, and
what is assumed, is in docs/cost.md.
"""
