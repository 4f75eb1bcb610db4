"""Files that speechft reads and writes: text, JSON and YAML, atomic outputs, and rules on output paths."""
