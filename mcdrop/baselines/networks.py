"""Networks trained from a table: without dropout, as an ensemble, and with dropout kept alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mcdrop._modes import training_modes
from mcdrop.baselines.candidates import checked_decays, checked_rates
from mcdrop.baselines.fitting import (
    AnyPrediction,
    Choice,
    Fitted,
    Network,
    NetworkTask,
    Plan,
    checked_network,
    fit_networks,
)
from mcdrop.baselines.members import dropout_predictions, plain_predictions
from mcdrop.baselines.stacked import Training
from mcdrop.baselines.table import Columns, column_names, feature_matrix
from mcdrop.checks import (
    require_choice,
    require_count,
    require_fitted,
    require_flag,
    require_seed,
)
from mcdrop.errors import UnsupportedError
from mcdrop.prediction.targets import row_index

__all__ = ["DeepEnsemble", "DropoutNetwork", "L2Network"]

_TASKS = ("regression", "heteroscedastic", "classification")
# For standardized numbers: from hardly any penalty to one that keeps a network nearly linear.
_DECAYS = (1e-5, 1e-4, 1e-3, 1e-2)
_RATES = (0.05, 0.1, 0.2)


class _TrainedNetworks:
    """What the baselines below share: checks, fit and predict."""

    def __init__(
        self,
        network: Network | int,
        task: NetworkTask,
        p: float | Sequence[float],
        weight_decay: float | Sequence[float],
        n_members: int,
        training: Training | None,
        random_state: int,
    ) -> None:
        name = type(self).__name__
        require_choice(name, "task", task, _TASKS)
        require_count(name, "n_members", n_members)
        require_seed(name, "random_state", random_state)
        self.network = checked_network(name, network)
        self.task: NetworkTask = task
        self.p = checked_rates(name, p)
        self.weight_decay = checked_decays(name, weight_decay)
        self.n_members = n_members
        self.training = _checked_training(name, training)
        self.random_state = random_state
        self._fitted: Fitted | None = None
        self._columns: Columns = None

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The trained networks: features (N, D) in, means in units of y or logits out."""
        return self._after_fit("networks").networks

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every candidate with its score on the validation rows."""
        return self._after_fit("choices").choices

    @property
    def chosen(self) -> Choice:
        """The candidate with the best score, which the networks were trained with."""
        return self._after_fit("chosen").chosen

    @training_modes()
    def _fit(self, X: Any, y: Any) -> None:
        plan = Plan(
            f"{type(self).__name__}.fit",
            self.network,
            self.task,
            self.p,
            self.weight_decay,
            self.n_members,
            self.training,
            self.random_state,
        )
        self._fitted = fit_networks(plan, X, y, self._predicted)
        self._columns = column_names(X)

    def _predicted(self, fitted: Fitted, X: torch.Tensor) -> AnyPrediction:
        return plain_predictions(self.task, fitted, X)

    def predict(self, X: Any) -> AnyPrediction:
        """Predict rows `X`: float64, in the shape of the targets of the fit.

        Args:
            X: Features, (N, D), in the order of the fit.

        Raises:
            ShapeError: If the number of features differs from the fit.
            RangeError: If columns have other names than in the fit, or another order.
            UnsupportedError: If `fit` has not run.
        """
        fitted = self._after_fit("predict")
        name = f"{type(self).__name__}.predict"
        features = feature_matrix(name, X, n_features=fitted.n_features, columns=self._columns)
        with torch.device("cpu"):
            predicted = self._predicted(fitted, torch.from_numpy(features))
        return replace(predicted, index=row_index(X))

    def _after_fit(self, what: str) -> Fitted:
        return require_fitted(f"{type(self).__name__}.{what}", self._fitted, "X, y")


class L2Network(_TrainedNetworks):
    """A network without dropout, its weight decay chosen on validation rows.

    Features and real targets are standardized inside. The loss is half the squared error (summed
    over outputs), the negative log-likelihood or the cross-entropy, averaged over rows, plus
    lambda |W|^2 for the weights; biases are free. A regression is normal around the output, with
    the noise of the validation rows. Nothing is epistemic: one set of weights predicts.

    Args:
        network: Hidden widths of a ReLU network, such as (50,) or (64, 64); or a function
            (n_inputs, n_outputs) that builds any network of layers that treat rows on their own.
            Its `nn.Dropout` layers are off here. "heteroscedastic" asks for 2 outputs per target:
            all means, then all log variances.
        task: "regression", "heteroscedastic" or "classification".
        weight_decay: lambda, a number or several to choose from.
        training: Epochs, batch size, learning rate, share of validation rows, progress bar.
        random_state: Seed of split, weights and batches.

    Example:
        >>> X = torch.linspace(-1, 1, 40).unsqueeze(1)
        >>> y = X[:, 0].abs()
        >>> model = L2Network((20,), training=Training(max_epochs=60)).fit(X, y)
        >>> bool((model.predict(X).mean - y).abs().mean() < 0.1)
        True
    """

    def __init__(
        self,
        network: Network | int = (50,),
        *,
        task: NetworkTask = "regression",
        weight_decay: float | Sequence[float] = _DECAYS,
        training: Training | None = None,
        random_state: int = 0,
    ) -> None:
        super().__init__(network, task, 0.0, weight_decay, 1, training, random_state)

    def fit(self, X: Any, y: Any) -> L2Network:
        """Choose the weight decay on validation rows, train on all rows, return the model.

        Args:
            X: Features, (N, D): Tensor, ndarray or DataFrame.
            y: Targets, (N,) or (N, K); for classification class indices 0 ... C - 1, (N,).

        Raises:
            ShapeError: If the rows of `X` and `y` do not match.
            NonFiniteError: If a value is NaN or infinite.
            RangeError: If there are fewer than 10 rows, or a class is missing.
            UnsupportedError: If the network has layers that mix rows, such as BatchNorm.
        """
        self._fit(X, y)
        return self


class DeepEnsemble(_TrainedNetworks):
    """Networks that differ in initial weights and batches; they predict as a mixture.

    The weight decay is chosen by the mixture's likelihood on validation rows, for all members
    alike. The epistemic part is the variance between members (divided by M - 1).

    Args:
        network: As for `L2Network`.
        n_members: Networks in the ensemble, M >= 2.
        task: "regression" (one noise level, from the validation rows), "heteroscedastic" (each
            member predicts mean and log variance, as in the paper) or "classification".
        weight_decay: lambda, a number or several to choose from.
        training: As for `L2Network`.
        random_state: Seed of split, weights and batches.

    Source:
        Lakshminarayanan, Pritzel & Blundell (2017), without adversarial training.

    Example:
        >>> X = torch.linspace(-1, 1, 40).unsqueeze(1)
        >>> quick = Training(max_epochs=20)
        >>> model = DeepEnsemble((20,), n_members=3, weight_decay=1e-4, training=quick)
        >>> p = model.fit(X, X[:, 0].abs()).predict([[0.0], [9.0]])  # 9 is far outside
        >>> p.n_samples, bool(p.epistemic_std[1] > p.epistemic_std[0])
        (3, True)
    """

    def __init__(
        self,
        network: Network | int = (50,),
        *,
        n_members: int = 5,
        task: NetworkTask = "regression",
        weight_decay: float | Sequence[float] = _DECAYS,
        training: Training | None = None,
        random_state: int = 0,
    ) -> None:
        require_count("DeepEnsemble", "n_members", n_members, 2)
        super().__init__(network, task, 0.0, weight_decay, n_members, training, random_state)

    def fit(self, X: Any, y: Any) -> DeepEnsemble:
        """Choose the weight decay on validation rows, train on all rows, return the model.

        Args:
            X: As for `L2Network.fit`.
            y: As for `L2Network.fit`.

        Raises:
            McdropError: As for `L2Network.fit`.
        """
        self._fit(X, y)
        return self


class DropoutNetwork(_TrainedNetworks):
    """A network trained with dropout, which stays alive in prediction: MC dropout.

    Rate and weight decay are chosen by the likelihood of the passes on validation rows. With
    several members it is MC dropout over an ensemble: the mixture of all passes of all networks.

    Args:
        network: As for `L2Network`; hidden widths get dropout after each hidden layer, and all
            `nn.Dropout` layers of a network of your own take the chosen rate.
        p: Dropout rate, in [0, 1), a number or several to choose from.
        n_members: Networks; 1 for plain MC dropout.
        n_samples: Passes of each network in prediction.
        alive: False turns dropout off in prediction (the weight scaling rule): the same training,
            without what the passes add.
        task: As for `DeepEnsemble`.
        weight_decay: lambda, a number or several to choose from.
        training: As for `L2Network`.
        random_state: Seed of split, weights, batches and masks.

    Source:
        Gal & Ghahramani (2016); over an ensemble: Filos et al. (2019).

    Example:
        >>> X = torch.linspace(-1, 1, 40).unsqueeze(1)
        >>> quick = Training(max_epochs=20)
        >>> model = DropoutNetwork((20,), p=[0.1, 0.3], weight_decay=1e-4, training=quick)
        >>> model.fit(X, X[:, 0].abs()).predict(X).n_samples
        100
    """

    def __init__(
        self,
        network: Network | int = (50,),
        *,
        p: float | Sequence[float] = _RATES,
        n_members: int = 1,
        n_samples: int = 100,
        alive: bool = True,
        task: NetworkTask = "regression",
        weight_decay: float | Sequence[float] = _DECAYS,
        training: Training | None = None,
        random_state: int = 0,
    ) -> None:
        require_count("DropoutNetwork", "n_samples", n_samples, 2)
        require_flag("DropoutNetwork", "alive", alive)
        self.n_samples = n_samples
        self.alive = alive
        super().__init__(network, task, p, weight_decay, n_members, training, random_state)

    def fit(self, X: Any, y: Any) -> DropoutNetwork:
        """Choose rate and weight decay on validation rows, train on all rows, return the model.

        Args:
            X: As for `L2Network.fit`.
            y: As for `L2Network.fit`.

        Raises:
            McdropError: As for `L2Network.fit`.
            NoDropoutError: If the network has no `nn.Dropout`.
        """
        self._fit(X, y)
        return self

    def _predicted(self, fitted: Fitted, X: torch.Tensor) -> AnyPrediction:
        if not self.alive:
            return super()._predicted(fitted, X)
        return dropout_predictions(self.task, fitted, X, self.n_samples, self.random_state)


def _checked_training(name: str, training: object) -> Training:
    """Return how to train, the defaults for None."""
    if training is None or isinstance(training, Training):
        return training or Training()
    raise UnsupportedError.of(
        name, "training", "be a Training", repr(training), "Pass Training(max_epochs=50)"
    )
