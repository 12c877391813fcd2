"""Predictions from files to files: read in blocks, kept in parts, joined at the end."""
