from __future__ import annotations

from hypothesis import settings

# A busy machine must not fail a law; the same examples every time, so that no run is by luck.
settings.register_profile("laws", deadline=None, derandomize=True)
settings.load_profile("laws")
