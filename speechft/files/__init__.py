"""Files that speechft reads and writes: text of any encoding, JSON and YAML, atomic outputs, and where outputs may go."""
