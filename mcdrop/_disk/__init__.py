"""Files that are written whole or not at all, and what a file may hold before anything reads it."""
