"""Recipes: the small JSON files that carry one job its settings, and the cell that an evaluation returns. No torch here."""
