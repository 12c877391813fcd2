"""Other methods behind the same prediction types, to compare dropout with."""

from mcdrop.baselines.bayesian_ridge import BayesianRidge
from mcdrop.baselines.deterministic import Deterministic
from mcdrop.baselines.dropout_penalty import equivalent_logistic_penalty, equivalent_ridge_penalty
from mcdrop.baselines.dropout_rate import RateChoice, RateScore, tune_dropout_rate
from mcdrop.baselines.gaussian_process import GaussianProcess
from mcdrop.baselines.last_layer_laplace import LastLayerLaplace
from mcdrop.baselines.logistic import LogisticL2
from mcdrop.baselines.networks import DeepEnsemble, DropoutNetwork, L2Network
from mcdrop.baselines.ridge import Ridge
from mcdrop.baselines.stacked import Training

__all__ = [
    "BayesianRidge",
    "DeepEnsemble",
    "Deterministic",
    "DropoutNetwork",
    "GaussianProcess",
    "L2Network",
    "LastLayerLaplace",
    "LogisticL2",
    "RateChoice",
    "RateScore",
    "Ridge",
    "Training",
    "equivalent_logistic_penalty",
    "equivalent_ridge_penalty",
    "tune_dropout_rate",
]
