"""What one forward call is given and saw: names, rates, placeholders and passes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mcdrop._fusion.placeholders import Dropped, Placeholders
from mcdrop._live import functorch
from mcdrop._live.call import Call, InPlaceError, Seen
from mcdrop._live.sites import DropoutSite
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop._masks.source import MaskSource, Span
from mcdrop.errors import UnsupportedError

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def call_of(rates: Mapping[str, float] | None = None, **options: Any) -> Call:
    source = MaskSource(0, torch.device("cpu"))
    return Call({}, source, False, Span(count=3), rates or {}, **options)


def named(call: Call, path: str, module: nn.Module | None, kind: str = "dropout") -> str:
    """Record a site of a kind in a module, and return its name."""
    if module is not None:
        call.seen.modules.append((path, module))
    name = call.site(kind, 0.5, (4, 6)).name
    call.seen.modules.clear()
    return name


@pytest.mark.parametrize(
    ("path", "module", "kind", "name"),
    [
        ("", None, "dropout", "(root):dropout"),
        ("", nn.Dropout(), "dropout", "(root)"),
        ("encoder.drop", nn.Dropout2d(), "dropout2d", "encoder.drop"),
        ("encoder", nn.Linear(1, 1), "dropout2d", "encoder:dropout2d"),
        ("rnn", nn.GRU(1, 1), "recurrent", "rnn"),
        ("attention", nn.MultiheadAttention(2, 1), "dropout", "attention"),
        ("path", nn.Identity(), "module", "path"),
    ],
)
def test_a_site_is_named_after_its_module_and_function(
    path: str, module: nn.Module | None, kind: str, name: str
) -> None:
    assert named(call_of(), path, module, kind) == name


def test_repeats_are_counted_by_name() -> None:
    call, block = call_of(), nn.Linear(1, 1)
    found = [
        named(call, "a", block),
        named(call, "a", block),
        named(call, "a", block, "dropout2d"),
        named(call, "b", block),
        named(call, "a", block),
    ]
    assert found == ["a:dropout", "a:dropout#2", "a:dropout2d", "b:dropout", "a:dropout#3"]
    assert [site.order for site in call.seen.sites] == [0, 1, 2, 3, 4]
    # A new call counts anew.
    assert named(call_of(), "a", block) == "a:dropout"


def test_the_innermost_module_gives_the_name() -> None:
    call = call_of()
    call.seen.modules += [("", nn.Sequential()), ("0", nn.Sequential()), ("0.1", nn.Dropout())]
    assert call.seen.module_path == "0.1"
    assert call.site("dropout", 0.5, (1,)).name == "0.1"


def test_the_most_specific_rate_is_in_force() -> None:
    call, drop = call_of({"a": 0.1, "a#2": 0.2, "": 0.3}), nn.Dropout()
    for path in ("a", "a", "a", "b"):
        named(call, path, drop)
    assert [site.p for site in call.seen.sites] == [0.1, 0.2, 0.1, 0.3]
    own = call_of({"a": 0.1})
    named(own, "b", drop)
    assert own.seen.sites[0].p == 0.5


@pytest.mark.parametrize(
    ("kind", "p", "fired"),
    [
        ("dropout", 0.0, False),
        ("dropout", 0.5, True),
        ("dropout", 1.0, False),
        ("dropout", math.nan, False),
        ("module", math.nan, True),
    ],
)
def test_sites_fire_at_rates_between_zero_and_one(kind: str, p: float, fired: bool) -> None:
    assert call_of().site(kind, p, (1,)).fired == fired


def test_work_before_each_site_is_noted_where_it_is_counted() -> None:
    counts = iter([10, 30])
    call = call_of(flops=lambda: next(counts))
    for _ in range(2):
        call.site("dropout", 0.5, (1,))
    assert call.seen.flops_before == [10, 30]
    plain = call_of()
    plain.site("dropout", 0.5, (1,))
    assert plain.seen.flops_before == []


def test_stale_tensors_are_found_at_any_depth() -> None:
    seen = call_of().seen
    stale = X.clone()
    seen.overwritten.append(stale)
    seen.check_not_read((X, [X, {"a": X}], 3))
    for values in (stale, (X, stale), [[stale]], {"a": (X, {"b": stale})}):
        with pytest.raises(InPlaceError, match="reads a tensor after an in-place dropout of it"):
            seen.check_not_read(values)


def test_placeholders_reach_only_the_rules_that_take_them() -> None:
    placeholders = Placeholders(lambda call, node: X + 1, frozenset({F.relu}))
    call = call_of(placeholders=placeholders)
    held = placeholders.put(Dropped(X, None, 0.5, lambda _: 0), X)
    shape: Any = Tensor.shape.__get__  # type: ignore[attr-defined]
    assert call.arguments(shape, (held,), {})[0][0] is held
    taken, _ = call.arguments(F.relu, (held, held), {"other": held})
    assert taken[0] is held
    read, named_ones = call.arguments(torch.add, (held, [held]), {"other": held})
    for values in (taken[1], read[0], read[1][0], named_ones["other"], call.read(held)):
        assert torch.equal(values, X + 1)


@pytest.mark.parametrize("direct", [True, False])
def test_over_passes_gets_all_passes_first(direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functorch, "_DIRECT", direct and functorch._DIRECT)
    shapes: list[list[tuple[int, ...]]] = []

    def together(batched: Sequence[bool], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        assert list(batched) == [True, False]
        shapes.append([tuple(x.shape) for x in tensors])
        return (tensors[0] * tensors[1],)

    def below(index: Tensor) -> Tensor:
        call = call_of(index=index)
        batched = X + index
        assert call.is_batched(batched)
        assert not call.is_batched(X)
        (result,) = call.over_passes(together, lambda _: (X,), (batched, X))
        (same,) = call.over_passes(lambda *_: None, lambda each: (each[0] + 1,), (X,))
        assert torch.equal(same, X + 1)
        return result

    found = torch.func.vmap(below)(torch.arange(3))
    assert shapes == [[(3, 4, 6), (1, 4, 6)]]
    torch.testing.assert_close(found, torch.stack([(X + i) * X for i in range(3)]))


def test_a_single_pass_is_computed_alone() -> None:
    call = call_of()
    assert not call.is_batched(X)
    (found,) = call.over_passes(lambda *_: None, lambda each: (each[0] * 2,), (X,))
    assert torch.equal(found, X * 2)


ROWS = RowLayout(((RowDim(0, 2),), (), (RowDim(0, 1), RowDim(1, 1))), ())


@pytest.mark.parametrize(
    ("order", "mask_shape", "numbers", "expected"),
    [
        (0, (8, 6), range(4), RowDim(0, 2)),
        (0, (8, 6), (3, 9, 11, 12), RowDim(0, 2)),
        (0, (1, 6), range(4), None),
        (0, (8, 6), range(3), None),
        (0, (8, 6), None, None),
        (1, (8, 6), range(4), None),
        (2, (4, 4), range(4), None),
        (3, (8, 6), range(4), None),
    ],
)
def test_a_mask_whose_rows_are_not_known_is_noted(
    order: int, mask_shape: tuple[int, ...], numbers: Any, expected: RowDim | None
) -> None:
    call = dataclasses.replace(call_of(rows=ROWS), span=Span(rows=numbers))
    site = DropoutSite("name", "dropout", 0.5, order, mask_shape, True)
    assert call.row_dim(site, mask_shape) == expected
    assert call.seen.drawn_by_batch == ([] if expected else ["name"])
    shared = dataclasses.replace(call, shares_masks=True, seen=Seen())
    assert shared.row_dim(site, mask_shape) is None
    assert shared.seen.drawn_by_batch == []


def test_a_site_that_was_not_seen_where_rows_were_told_is_refused() -> None:
    layout = RowLayout(((RowDim(0, 1),), ()), (), ("drop", "head"))
    call = dataclasses.replace(call_of(rows=layout), shares_masks=True)

    def mask_of(name: str, order: int) -> Any:
        return call.mask(DropoutSite(name, "dropout", 0.5, order, (4, 6), True), (4, 6))

    assert mask_of("drop", 0).rows == (RowDim(0, 1),)
    assert mask_of("head", 1).rows == ()
    for name, order in (("drop#2", 1), ("drop#2", 2)):
        with pytest.raises(UnsupportedError, match="model that calls dropout in drop#2 for some"):
            mask_of(name, order)
