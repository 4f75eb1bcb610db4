"""Recipes, the JSON files with the settings of one job, and cells, the results of evaluations. No torch here."""
