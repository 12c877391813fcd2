"""Linear models behind the same prediction types, to compare dropout with."""

from mcdrop.baselines.bayesian_ridge import BayesianRidge
from mcdrop.baselines.deterministic import Deterministic
from mcdrop.baselines.dropout_penalty import equivalent_ridge_penalty
from mcdrop.baselines.logistic import LogisticL2
from mcdrop.baselines.ridge import Ridge

__all__ = ["BayesianRidge", "Deterministic", "LogisticL2", "Ridge", "equivalent_ridge_penalty"]
