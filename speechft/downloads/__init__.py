"""Public files: what config/*.tsv knows of them, and their download."""
