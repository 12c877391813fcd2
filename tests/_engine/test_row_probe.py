"""Which dimensions count rows: found by running two and three rows, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop._engine.batch import Batch
from mcdrop._engine.passes import Passes
from mcdrop._engine.plan import Plan
from mcdrop._engine.planner import Planner
from mcdrop._engine.row_probe import row_layout
from mcdrop._engine.settings import Settings
from mcdrop._masks.rows import RowDim, RowLayout
from mcdrop.errors import UnsupportedError
from tests.passes import draw
from tests.zoo import DropPath

X = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))


class Function(nn.Module):
    """Drops out what a function makes of its input."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function, self.drop = function, nn.Dropout(0.5)

    def forward(self, *args: Tensor) -> Any:
        return self.drop(self.function(*args))


def layout_of(model: nn.Module, *args: Tensor) -> RowLayout:
    passes = Passes(Settings("sample", model, {}, masks="shared"), 0, torch.device("cpu"))
    sizes = {len(x) for x in args}
    batch = Batch(args, {}, sizes.pop() if len(sizes) == 1 else None)
    return row_layout("sample", passes.observed, Plan(), batch)


def site_of(function: Callable[..., Any], *args: Tensor) -> tuple[RowDim, ...]:
    (site,) = layout_of(Function(function), *args).sites
    return site


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[RowDim, ...]]] = {
    "rows first": (lambda x: x, (RowDim(0, 1),)),
    "rows second": (lambda x: x.transpose(0, 1), (RowDim(1, 1),)),
    "rows outermost": (lambda x: x.flatten(0, 1), (RowDim(0, 4),)),
    "rows innermost": (lambda x: x.transpose(0, 1).flatten(0, 1), (RowDim(0, 4, False),)),
    "merged with the last": (lambda x: x.permute(1, 0, 2).flatten(1), (RowDim(1, 6),)),
    "twice": (lambda x: x.unsqueeze(1) + x.unsqueeze(0), (RowDim(0, 1), RowDim(1, 1))),
    "no rows": (lambda x: torch.ones(3, 2), ()),
}


@pytest.mark.parametrize(("function", "expected"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_row_dimensions_are_found(
    function: Callable[[Tensor], Tensor], expected: tuple[RowDim, ...]
) -> None:
    assert site_of(function, X) == expected


def test_a_single_row_can_be_told_as_well() -> None:
    assert site_of(lambda x: x.flatten(0, 1), X[:1]) == (RowDim(0, 4),)


def test_several_inputs_and_sites_each_have_theirs() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return F.dropout(x.flatten(0, 1), 0.5).sum() + F.dropout(y.t(), 0.5)

    assert layout_of(Two(), X, torch.ones(5, 3)).sites == ((RowDim(0, 4),), (RowDim(1, 1),))


def test_random_tensors_of_the_model_have_rows_too() -> None:
    model = Function(lambda x: x + torch.rand(len(x), 1, 1) + torch.rand(4, 6))
    assert layout_of(model, X).random_calls == ((RowDim(0, 1),), ())


def by_number_of_rows(x: Tensor) -> Tensor:
    return F.dropout(x, 0.5) if len(x) > 2 else x


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "dropout for some": (by_number_of_rows, "dropout calls depend on the number of rows"),
    "rows by rows": (
        lambda x: x.sum(dim=(1, 2)).repeat(len(x)),
        r"drop, where \(4,\) for two rows becomes \(9,\) for three",
    ),
    "one more": (
        lambda x: torch.cat([x, x[:1]]),
        r"\(3, 4, 6\) for two rows becomes \(4, 4, 6\) for three",
    ),
    "dimensions": (
        lambda x: x if len(x) == 2 else x.unsqueeze(0),
        "number of dimensions depends on that of rows",
    ),
    "rows in between": (
        lambda x: x.permute(1, 0, 2).flatten(),
        "rows are merged with another dimension",
    ),
    "merged random numbers": (
        lambda x: x + torch.rand(x.numel()).view_as(x),
        r"random numbers of shape \(48,\) for two rows",
    ),
}


@pytest.mark.parametrize(("function", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_told_is_refused(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(
        UnsupportedError, match="sample: expected `masks` to be 'independent' where .*" + text
    ):
        layout_of(Function(function), X)


def test_inputs_that_disagree_on_rows_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="'shared' with inputs of shapes"):
        layout_of(Function(lambda x, y: x + y), X, X[:1])


def test_modules_that_draw_their_own_numbers_count_as_sites() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.path = DropPath(0.4)
            self.attention = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.path(x)
            out: torch.Tensor = self.attention(x, x, x, need_weights=False)[0]
            return out

    x = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    found, run = draw(Block().eval(), x, 16, masks="shared")
    assert run.sites[0].kind == "module"
    twice, _ = draw(Block().eval(), x[:1].expand(3, 5, 8).clone(), 16, masks="shared")
    torch.testing.assert_close(twice, twice[:, :1].expand_as(twice), rtol=1e-4, atol=1e-5)
    assert found.std(dim=0).max() > 0


def test_rows_of_equal_entries_are_told_apart_by_disturbing_them() -> None:
    class Merged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.drop(x.t().flatten()).view(x.shape[1], -1).t()
            return out

    found, _ = draw(Merged().eval(), torch.ones(3, 4), 32, masks="shared")
    assert torch.equal(found, found[:, :1].expand_as(found))


def known_of(model: nn.Module, *args: Tensor) -> RowLayout | None:
    """Look at a model whose rows have masks of their own."""
    settings = Settings("sample", model, {})
    passes = Passes(settings, 0, torch.device("cpu"))
    sizes = {len(x) for x in args}
    batch = Batch(args, {}, sizes.pop() if len(sizes) == 1 else None)
    return Planner(settings, passes).plan(batch, 4, rows_split=False).rows


KNOWN = {
    **FUNCTIONS,
    "twice": (FUNCTIONS["twice"][0], ()),
    "no rows": (FUNCTIONS["no rows"][0], ()),
}


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("function", "expected"), KNOWN.values(), ids=KNOWN.keys())
def test_rows_with_masks_of_their_own_are_found_from_any_number(
    function: Callable[[Tensor], Tensor], expected: tuple[RowDim, ...], n_rows: int
) -> None:
    found = known_of(Function(function), X[:n_rows])
    assert found == (RowLayout((expected,), ()) if expected else None)


@pytest.mark.parametrize("function", [REFUSED[name][0] for name in ("one more", "rows in between")])
def test_what_cannot_be_told_has_masks_of_the_batch(function: Callable[..., Any]) -> None:
    assert known_of(Function(function), X) is None


class PickyError(Exception):
    pass


def test_a_model_may_refuse_two_rows_in_whatever_way_it_likes() -> None:
    def picky(x: Tensor) -> Tensor:
        if len(x) < 5:
            raise PickyError
        return x

    assert known_of(Function(picky), X) is None
    assert known_of(Function(lambda x, y: x + y), X, X[:1]) is None


def test_rows_of_integers_are_told_apart_as_well() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.drop = nn.Embedding(7, 3), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.drop(self.words(x).transpose(0, 1).flatten(0, 1))
            return out.view(x.shape[1], x.shape[0], 3).sum(dim=0)

    # One row is compared with itself, rotated.
    found = known_of(Embedded(), torch.tensor([[0, 3, 6, 2]]))
    assert found == RowLayout(((RowDim(0, 4, rows_first=False),),), ())


def test_a_model_of_a_whole_graph_is_refused_with_its_own_reason() -> None:
    edges, nodes = torch.eye(5), torch.ones(5, 3)
    text = (
        r"rows cannot be told apart, but got 'shared' with a model that fails on 2 of them \(mat1"
    )
    with pytest.raises(UnsupportedError, match=text):
        layout_of(Function(torch.mm), edges, nodes)


def test_sparse_inputs_have_no_rows_to_tell() -> None:
    graph = mcdrop.wrap(Function(torch.sparse.mm), masks="shared")
    with pytest.raises(UnsupportedError, match="'shared' with a sparse tensor, of which no rows"):
        graph.sample((torch.eye(5).to_sparse(), torch.ones(5, 3)), n_samples=4)
