"""From passes to predictions: settings, likelihoods, accumulation, tolerance."""
