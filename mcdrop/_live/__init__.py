"""Dropout answered while the model stays in eval(): the mode and the rules."""
