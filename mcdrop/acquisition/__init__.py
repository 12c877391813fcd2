"""Which rows to label next."""

from mcdrop.acquisition.batch import BatchSelection, batch_bald
from mcdrop.acquisition.scores import bald, max_entropy, max_variance, top_k, variation_ratio

__all__ = [
    "BatchSelection",
    "bald",
    "batch_bald",
    "max_entropy",
    "max_variance",
    "top_k",
    "variation_ratio",
]
