"""Estimators for scikit-learn: pipelines, searches and cross-validation with uncertainty."""

from mcdrop.estimators.classifier import MCDropoutClassifier
from mcdrop.estimators.regressor import MCDropoutRegressor

__all__ = ["MCDropoutClassifier", "MCDropoutRegressor"]
