"""Everything specific to fairseq: its trainer, plug-ins and workarounds. Importing this package does not import fairseq."""
