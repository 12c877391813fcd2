"""The UCI regression benchmark of Gal & Ghahramani (2016): data, training, selection, tables."""
