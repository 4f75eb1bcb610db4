"""Tables and figures from result cells, and the SUPERB scores. Works without torch."""

from typing import TYPE_CHECKING

from speechft.lazy import lazy_names
from speechft.tables.scores import partial_score, superb_full_score, superb_score

if TYPE_CHECKING:
    from speechft.tables.notebook import compare, items, plot_alpha

__all__ = ["compare", "items", "partial_score", "plot_alpha", "superb_full_score", "superb_score"]

__getattr__ = lazy_names(__name__, {"compare": "notebook", "items": "notebook", "plot_alpha": "notebook"})
