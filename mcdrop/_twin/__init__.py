"""The private copy of the user's model: made, gated, tracked."""
