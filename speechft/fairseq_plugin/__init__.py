"""Everything that exists because of fairseq: its trainer, its plug-ins (`registered`), its surprises. Importing this imports no fairseq."""
