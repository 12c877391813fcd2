"""Dropout and the linear layers after it, run together and late; removable as a whole."""
