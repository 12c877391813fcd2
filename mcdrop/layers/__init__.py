"""Layers that drop more than single units, and dropout for models that have none.

All of them are live under `mcdrop.wrap` and do nothing in plain `eval()`.
"""

from mcdrop.layers.concrete import ConcreteDropout, concrete_regularizer
from mcdrop.layers.drop_connect import DropConnectLinear
from mcdrop.layers.inject import inject_dropout
from mcdrop.layers.locked import LockedDropout
from mcdrop.layers.second_moment import second_moment_loss
from mcdrop.layers.stochastic_depth import StochasticDepth

__all__ = [
    "ConcreteDropout",
    "DropConnectLinear",
    "LockedDropout",
    "StochasticDepth",
    "concrete_regularizer",
    "inject_dropout",
    "second_moment_loss",
]
