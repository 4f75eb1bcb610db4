"""Public files listed in config/*.tsv, and their download."""
