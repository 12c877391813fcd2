"""How a prediction was made: the record that every Monte Carlo prediction carries as `run`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from mcdrop._live.sites import DropoutSite

__all__ = ["Masks", "Run", "Strategy"]

Masks = Literal["independent", "shared"]
Strategy = Literal["vectorized", "sequential"]


@dataclass(frozen=True)
class Run:
    """Which strategy made a prediction, why, and what it cost.

    Attributes:
        strategy: "vectorized" (all passes of a chunk in one call, the part of the network before
            the first dropout computed once) or "sequential" (one pass at a time).
        reason: Why that strategy ran, in one sentence.
        n_samples: Stochastic passes per row, S; the most any row took, where they differ.
        seed: Seed of the masks; passing it again gives the same numbers.
        masks: "independent" or "shared".
        stratified: Whether passes were a Latin hypercube: every 16 share a unit's drops evenly.
        sites: The dropout calls of one pass, in order.
        batch_size: Rows per forward call; None if the inputs were passed on whole.
        sample_chunk: Passes computed together.
        device: Device the passes ran on.
        dtype: Floating point type of the model's output.
        seconds: Wall time of the whole prediction.
        watched: What watching a training run on the copy decided, and what it could not judge;
            empty where no module could read a training flag.
        depends_on_batches: What draws other numbers where rows are split into other batches, and
            why; empty where a row's masks depend on the seed and on its number alone.
        control_variate: What was computed exactly instead of by passes (the part that is linear in
            the masks, the last dropout), why not more, and how many independent passes are as
            precise; empty where it was not asked for.
        controlled: Whether anything was.
    """

    strategy: Strategy
    reason: str
    n_samples: int
    seed: int
    masks: Masks
    stratified: bool
    sites: tuple[DropoutSite, ...]
    batch_size: int | None
    sample_chunk: int
    device: str
    dtype: str
    seconds: float
    watched: str = ""
    depends_on_batches: str = ""
    control_variate: str = ""
    controlled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain numbers, strings, lists and dicts, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Run:
        """Rebuild a record from what `to_dict` returned."""
        # Records of earlier versions lack these.
        before = {"watched": "", "depends_on_batches": "", "control_variate": ""}
        record = {**before, "controlled": False, **record}
        values = {field.name: record[field.name] for field in fields(cls)}
        values["sites"] = tuple(
            DropoutSite(**{**site, "shape": tuple(site["shape"])}) for site in record["sites"]
        )
        return cls(**values)
