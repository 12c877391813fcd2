"""Every kind of dropout, as a module and as a function, in both strategies, against torch's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mcdrop
from mcdrop._engine.record import Strategy
from mcdrop._live import functorch as batching
from mcdrop._live.mode import LiveDropout
from mcdrop._live.rules import PLAIN
from tests._live.rules.calls import call_of
from tests.passes import draw

Call = Callable[..., torch.Tensor]


class Functional(nn.Module):
    """Calls a dropout function on its input."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "dropout": (nn.Dropout(0.4), (3, 4, 5)),
    "dropout inplace": (nn.Dropout(0.4, inplace=True), (3, 4, 5)),
    "dropout1d": (nn.Dropout1d(0.4), (3, 4, 5)),
    "dropout1d unbatched": (nn.Dropout1d(0.4), (4, 5)),
    "dropout2d": (nn.Dropout2d(0.4), (3, 4, 5, 6)),
    "dropout3d": (nn.Dropout3d(0.4), (3, 4, 5, 2, 2)),
    "dropout3d unbatched": (nn.Dropout3d(0.4), (4, 5, 2, 2)),
    "alpha_dropout": (nn.AlphaDropout(0.4), (3, 4, 5)),
    "feature_alpha_dropout": (nn.FeatureAlphaDropout(0.4), (3, 4, 5)),
}

FUNCTIONS: dict[str, tuple[Call, tuple[int, ...]]] = {
    "F.dropout off": (lambda x: F.dropout(x, 0.4, training=False), (3, 4, 5)),
    "F.dropout on": (lambda x: F.dropout(x, p=0.4), (3, 4, 5)),
    "F.dropout by name": (lambda x: F.dropout(input=x, p=0.4, training=False), (3, 4, 5)),
    "F.dropout1d": (lambda x: F.dropout1d(x, 0.4, False), (3, 4, 5)),
    "F.dropout2d": (lambda x: F.dropout2d(x, 0.4, False), (3, 4, 5, 6)),
    "F.dropout3d": (lambda x: F.dropout3d(x, 0.4, False), (3, 4, 5, 2, 2)),
    "F.alpha_dropout": (lambda x: F.alpha_dropout(x, 0.4, False), (3, 4, 5)),
    "F.feature_alpha_dropout": (lambda x: F.feature_alpha_dropout(x, 0.4, False), (3, 4, 5)),
    "torch.dropout": (lambda x: torch.dropout(x, 0.4, False), (3, 4, 5)),
    "torch.feature_dropout": (lambda x: torch.feature_dropout(x, 0.4, False), (3, 4, 5)),
    "torch.alpha_dropout": (lambda x: torch.alpha_dropout(x, 0.4, False), (3, 4, 5)),
}

CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    **MODULES,
    **{name: (Functional(call), shape) for name, (call, shape) in FUNCTIONS.items()},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_values_and_their_shares_are_those_of_torch_in_train_mode(
    case: tuple[nn.Module, tuple[int, ...]], strategy: Strategy
) -> None:
    model, shape = case
    x = torch.ones(shape)
    found, run = draw(model, x, 2000, strategy)
    assert run.strategy == strategy
    kind = model if isinstance(model, nn.modules.dropout._DropoutNd) else None
    reference = torch.stack(
        [(kind.train()(x.clone()) if kind else _live_reference(model, x)) for _ in range(2000)]
    )
    levels = reference.unique()
    # On an input of ones there are two output levels, dropped and kept, however it is scaled;
    # the realized rate differs from the nominal one by up to 2^-17, the scale accordingly.
    assert len(levels) == 2
    nearest = (found.unsqueeze(-1) - levels).abs()
    assert nearest.amin(dim=-1).max().item() < 1e-4
    dropped_share = (nearest.argmin(dim=-1) == 0).double().mean().item()
    n_independent = 2000 * _mask_size(found[0])
    assert abs(dropped_share - 0.4) < 4 * (0.4 * 0.6 / n_independent) ** 0.5


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_whole_channels_are_dropped_together_exactly_where_torch_does(
    case: tuple[nn.Module, tuple[int, ...]],
) -> None:
    model, shape = case
    x = torch.ones(shape)
    found, _ = draw(model, x, 300)
    kind = model if isinstance(model, nn.modules.dropout._DropoutNd) else None
    reference = torch.stack(
        [(kind.train()(x.clone()) if kind else _live_reference(model, x)) for _ in range(300)]
    )
    for dim in range(1, found.ndim):
        varies = (found != found.narrow(dim, 0, 1)).any()
        assert bool(varies) == bool((reference != reference.narrow(dim, 0, 1)).any())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_both_strategies_draw_the_same_masks(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    model, shape = case
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    together, alone = draw(model, x, 40, "vectorized")[0], draw(model, x, 40, "sequential")[0]
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_plain_rules_drop_nothing_and_note_the_same_sites(
    case: tuple[nn.Module, tuple[int, ...]],
) -> None:
    model, shape = case
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    plain, live = call_of(opened=True, rules=PLAIN), call_of(opened=True)
    with LiveDropout(plain):
        assert torch.equal(model(x.clone()), x)
    with LiveDropout(live):
        model(x.clone())
    assert len(live.seen.sites) == 1
    assert plain.seen.sites == live.seen.sites


def test_training_flag_of_the_call_makes_no_difference() -> None:
    on = Functional(lambda x: F.dropout(x, 0.4, training=True))
    off = Functional(lambda x: F.dropout(x, 0.4, training=False))
    x = torch.ones(5, 6)
    assert torch.equal(draw(on, x, 10)[0], draw(off, x, 10)[0])


def test_one_instance_used_twice_is_two_independent_sites() -> None:
    drop = nn.Dropout(0.5)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = drop

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.drop(x), self.drop(x)], dim=1)

    x = torch.ones(10, 20)
    sites = mcdrop.wrap(Twice()).sites(x)
    assert [site.name for site in sites] == ["drop", "drop#2"]
    passes = draw(Twice(), x, 100)[0] != 0
    agreement = (passes[..., :20] == passes[..., 20:]).double().mean().item()
    assert abs(agreement - 0.5) < 4 * 0.5 / 20_000**0.5


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (nn.Dropout(0.5), "(root)"),
        (Functional(lambda x: F.dropout(x, 0.5, False)), "(root):dropout"),
        (nn.Sequential(nn.Sequential(nn.Dropout1d(0.5))), "0.0"),
    ],
)
def test_sites_are_named_after_the_module_that_drops(model: nn.Module, name: str) -> None:
    (site,) = mcdrop.wrap(model).sites(torch.ones(2, 3, 4))
    assert site.name == name
    assert site.fired
    assert site.shape == (2, 3, 4)


def test_rate_one_drops_everything() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(1.0))
    found, run = draw(model, torch.ones(2, 3), 5)
    assert bool((found == 0).all())
    assert [site.fired for site in run.sites] == [True, False]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types_are_kept(dtype: torch.dtype) -> None:
    found, _ = draw(nn.Dropout(0.5), torch.ones(3, 4, dtype=dtype), 10)
    assert found.dtype == dtype
    assert set(found.unique().tolist()) == {0.0, 2.0}


def test_torchs_own_error_for_a_bad_number_of_dimensions_is_kept() -> None:
    with pytest.raises(RuntimeError, match="dropout1d: Expected 2D or 3D input"):
        mcdrop.wrap(nn.Dropout1d(0.5)).sample(torch.ones(2, 3, 4, 5), 3)


def _live_reference(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The same function with training=True, by intercepting nothing: torch's own randomness."""
    assert isinstance(model, Functional)
    name = next(key for key, (call, _) in FUNCTIONS.items() if call is model.call)
    function = {"F": F, "torch": torch}[name.split(".")[0]]
    call = getattr(function, name.split(".")[1].split(" ")[0])
    out: torch.Tensor = call(x, 0.4, True)
    return out


def _mask_size(one_pass: torch.Tensor) -> int:
    """Number of independent units: channels where whole channels drop, else elements."""
    first = one_pass.reshape(*one_pass.shape[:2], -1)
    whole = bool((first == first[..., :1]).all()) and first.shape[2] > 1
    return one_pass.shape[0] * one_pass.shape[1] if whole else one_pass.numel()


def test_the_public_way_below_vmap_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Linear(4, 300), nn.ReLU(), nn.Dropout(0.3), nn.Linear(300, 2))
    x = torch.randn(9, 4)
    direct = mcdrop.wrap(net).sample(x, 40, seed=0)
    monkeypatch.setattr(batching, "_DIRECT", False)
    assert torch.equal(mcdrop.wrap(net).sample(x, 40, seed=0), direct)
