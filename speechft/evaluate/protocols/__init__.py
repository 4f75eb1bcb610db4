"""How each kind of task is evaluated: the default protocol, and those of ASV, QbE and SD."""
