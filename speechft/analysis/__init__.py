"""What fine-tuning did to an encoder: weight deviation against feature similarity (the paper's analysis)."""
