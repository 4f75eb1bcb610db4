"""Tables and figures from result cells, and the SUPERB scores. Works without torch."""

from speechft.tables.scores import partial_score, superb_full_score, superb_score

__all__ = ["partial_score", "superb_full_score", "superb_score"]
