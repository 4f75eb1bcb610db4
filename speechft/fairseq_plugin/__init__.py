"""Everything that exists because of fairseq: its trainer, its plug-ins, its surprises. Importing this imports no fairseq."""
