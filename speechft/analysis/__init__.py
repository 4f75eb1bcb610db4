"""How fine-tuning changes an encoder: feature similarity against weight deviation (the paper's analysis), and loss barriers."""
