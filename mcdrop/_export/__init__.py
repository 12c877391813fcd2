"""A model and its stochastic passes as one program, with masks that are constants."""
