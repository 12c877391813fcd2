"""A scikit-learn classifier with the uncertainty of Monte Carlo dropout and of an ensemble."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from typing_extensions import Self

from mcdrop._modes import training_modes
from mcdrop.checks import require_count
from mcdrop.errors import RangeError, ShapeError
from mcdrop.estimators.base import MCDropoutEstimator
from mcdrop.estimators.options import check_options, random_numbers
from mcdrop.prediction.classification import ClassificationPrediction, entropy
from mcdrop.prediction.targets import row_index

__all__ = ["MCDropoutClassifier"]

Float64 = npt.NDArray[np.float64]


class MCDropoutClassifier(ClassifierMixin, MCDropoutEstimator):  # type: ignore[misc]
    """Multilayer perceptrons with dropout, trained together, that predict probabilities.

    Every member is trained without one fold of the rows, on which its best epoch is chosen. Equal
    rows are merged, so a weight of k means the same as k copies, to the last bit, and the order of
    rows does not matter. Passes share their masks between rows: each is one function.

    Args:
        hidden_layer_sizes: Units of every hidden layer.
        p: Dropout rate after every hidden layer, in [0, 1); 0 makes a plain ensemble.
        n_members: Networks trained together; 1 for a single one.
        n_samples: Passes of a prediction, shared out among members.
        activation: "relu", "silu" or "tanh".
        learning_rate: Largest learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        batch_size: Rows per step and member; "auto" for N / 16 between 16 and 256.
        max_epochs: Walks over the rows; "auto" for about 2000 steps.
        early_stopping: Keep each member at its best epoch on its fold.
        validation_fraction: Share of rows held out where there is one member; with more, each
            leaves out 1 / n_members.
        patience: Epochs without improvement of any member before training stops.
        random_state: Seed, RandomState or None.

    Attributes:
        classes_: The labels, sorted, (C,).
        module_: The trained members, a `torch.nn.Module` from (N, D) to logits (N, M, C).
        n_features_in_: Number of features seen by `fit`.
        feature_names_in_: Their names, if all are strings.
        n_iter_: Epochs run.

    Source:
        Gal & Ghahramani (2016); ensembles: Lakshminarayanan et al. (2017).

    Example:
        >>> X = np.linspace(-2, 2, 80).reshape(-1, 1)
        >>> y = np.where(np.abs(X[:, 0]) < 1, "in", "out")
        >>> model = MCDropoutClassifier((20,), n_members=2, max_epochs=100, random_state=0)
        >>> model.fit(X, y).predict([[0.0], [1.9]])
        array(['in', 'out'], dtype='<U3')
        >>> model.predict_proba([[0.0], [1.0]]).shape
        (2, 2)
    """

    @training_modes()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the members.

        Args:
            X: Features, (N, D).
            y: Labels, (N,), of any type that sorts.
            sample_weight: Weights, (N,): a row of weight k counts as k rows.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If features are not finite numbers, labels are no classes, or rows do not
                match.
            RangeError: If an option lies outside its range.
        """
        check_options(f"{type(self).__name__}.fit", self)
        X, y = self._validated(X, y, reset=True)
        check_classification_targets(y)
        weight = self._weights(sample_weight, X)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._train(X, labels.reshape(-1, 1), weight, labels, len(self.classes_))
        return self

    @training_modes()
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch more; the first call sets the scales and has to name all classes.

        Args:
            X: Features, (N, D).
            y: Labels, (N,).
            classes: All labels there are, needed in the first call.
            sample_weight: Weights, (N,).

        Returns:
            The estimator itself.
        """
        check_options(f"{type(self).__name__}.partial_fit", self)
        first = not hasattr(self, "module_")
        if not first:
            self._own_module()
        X, y = self._validated(X, y, reset=first)
        check_classification_targets(y)
        weight = self._weights(sample_weight, X)
        function = f"{type(self).__name__}.partial_fit"
        if first and classes is None:
            remedy = "Pass classes=np.unique(all_labels)"
            raise RangeError.of(function, "classes", "name all labels", "None", remedy)
        if first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            remedy = "Start a new classifier for other labels"
            named = f"be the labels of the first call, {self.classes_}"
            raise RangeError.of(function, "classes", named, np.unique(classes), remedy)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            remedy = "Name all labels as `classes` in the first call"
            raise RangeError.of(
                function, "y", f"hold labels among {self.classes_}", unknown, remedy
            )
        labels = np.searchsorted(self.classes_, y)
        self._one_epoch(X, labels.reshape(-1, 1), weight, len(self.classes_))
        return self

    @classmethod
    def from_module(cls, module: nn.Module, *, classes: Any, **options: Any) -> Self:
        """Make a fitted estimator of a network that is trained already.

        Args:
            module: From features (N, D) in the type of its weights to logits (N, C).
            classes: The labels in the order of the logits, (C,).
            **options: Parameters of the estimator, such as `n_samples`.

        Returns:
            A fitted estimator. `fit` and `clone` start from the estimator's own network.

        Example:
            >>> net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Linear(8, 2))
            >>> model = MCDropoutClassifier.from_module(net, classes=["a", "b"], random_state=0)
            >>> model.predict_proba(np.zeros((4, 3))).shape
            (4, 2)
        """
        estimator = cls._from_module(module, options)
        estimator.classes_ = np.asarray(classes)
        return estimator

    def predict_with_uncertainty(self, X: Any) -> ClassificationPrediction:
        """Predict with every pass of every member, for metrics, reports and recalibration.

        Args:
            X: Features, (N, D).

        Returns:
            A prediction of shape (N, C), over the mixture of all passes; classes are numbered as in
            `classes_`, and rows carry the index of a DataFrame.
        """
        x = self._validated(X, reset=False)
        check_is_fitted(self, "module_")
        if len(self.classes_) == 1:
            return replace(_certain(len(x)), index=row_index(X))
        passes, logits = self._passes(x)
        if logits.shape[-1] != len(self.classes_):
            raise ShapeError.of(
                f"{type(self).__name__}.predict_with_uncertainty",
                "classes",
                f"hold one label for each of {logits.shape[-1]} logits of the network",
                f"{len(self.classes_)} labels",
                "Name every class to from_module; a network for two classes returns two logits",
            )
        by_member = logits.double().softmax(dim=-1)
        probs = by_member.permute(2, 0, 1, 3).flatten(0, 1)
        mean = probs.mean(dim=0)
        votes = F.one_hot(probs.argmax(dim=-1), mean.shape[1]).double().mean(dim=0)
        # Passes of a member are at most as precise as independent ones.
        n_passes, n_members = len(logits), logits.shape[2]
        spread = by_member.var(dim=0) if n_passes > 1 else 0 * by_member[0]
        within = spread.sum(dim=1) / (n_passes * n_members**2)
        return ClassificationPrediction(
            probs=mean,
            probs_std=probs.std(dim=0) if len(probs) > 1 else 0 * mean,
            expected_entropy=entropy(probs, dim=2).mean(dim=0),
            variation_ratio=1 - votes.amax(dim=1),
            mcse=within.sqrt(),
            n_samples=len(probs),
            samples=probs,
            run=passes.run,
            index=row_index(X),
        )

    def predict_proba(self, X: Any) -> Float64:
        """Predict the probability of every class, the mean over all passes.

        Args:
            X: Features, (N, D).

        Returns:
            Probabilities, (N, C), in the order of `classes_`.
        """
        return self.predict_with_uncertainty(X).probs.numpy()

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the most probable label.

        Args:
            X: Features, (N, D).

        Returns:
            Labels, (N,).
        """
        probs = self.predict_proba(X)
        return self.classes_[probs.argmax(axis=1)]

    def sample_proba(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> Float64:
        """Draw functions from the posterior: the probabilities that each of them states.

        Args:
            X: Features, (N, D).
            n_samples: Number of draws, S; with replacement, from the passes of a prediction.
            random_state: Seed, RandomState or None.

        Returns:
            Probabilities, (S, N, C); a draw is one function for all rows.
        """
        require_count(f"{type(self).__name__}.sample_proba", "n_samples", n_samples)
        rng = random_numbers(f"{type(self).__name__}.sample_proba", random_state)
        samples = self.predict_with_uncertainty(X).samples
        if samples is None:
            raise RuntimeError("sample_proba: passes were not kept")
        chosen = rng.choice(len(samples), size=n_samples, replace=n_samples > len(samples))
        return samples.numpy()[chosen]

    def _loss(self, out: Tensor, y: Tensor) -> Tensor:
        labels = y.squeeze(-1).long()
        return F.cross_entropy(out.flatten(0, 1), labels.flatten(), reduction="none").reshape(
            labels.shape
        )


def _certain(n_rows: int) -> ClassificationPrediction:
    """Return probability one of the only class."""
    one, zero = torch.ones(n_rows, 1, dtype=torch.float64), torch.zeros(n_rows).double()
    return ClassificationPrediction(
        probs=one,
        probs_std=0 * one,
        expected_entropy=zero,
        variation_ratio=zero,
        mcse=0 * one,
        n_samples=2,
        samples=one.expand(2, n_rows, 1),
    )
