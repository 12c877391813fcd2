"""Injected dropout: a copy that shares weights, where dropout lands, and how loud it is."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mcdrop
from mcdrop.errors import NoDropoutError, OutputError, RangeError, UnsupportedError
from mcdrop.layers import inject_dropout
from tests.layers.passes import assert_moments, draw

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Tangle(nn.Module):
    """A shared activation, a ModuleList, a ModuleDict, an alias and a nested Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.alias = self.act
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.heads = nn.ModuleDict({"a": nn.GELU(), "b": nn.Linear(4, 4)})
        self.tail = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.act(block(x))
        x = self.alias(self.heads["b"](self.heads["a"](x)))
        out: Tensor = self.tail(x)
        return out


class ConvNet(nn.Module):
    """ReLUs of convolution shape and of vector shape, and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AvgPool2d(2)
        )
        self.classifier = nn.Sequential(nn.Linear(32, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 2))


def inject(model: nn.Module, p: float = 0.5, *after: type[nn.Module] | str, **kind: Any) -> Any:
    """Inject with the warning expected."""
    with pytest.warns(UserWarning, match="not trained with it"):
        return (
            inject_dropout(model, p, after, **kind) if after else inject_dropout(model, p, **kind)
        )


def test_warning_names_places_rate_and_what_the_spread_is_not() -> None:
    with pytest.warns(UserWarning, match="inject_dropout") as caught:
        inject_dropout(mlp(), 0.25)
    (warning,) = caught
    assert str(warning.message) == (
        "inject_dropout: put dropout with p=0.25 at 1.injected_dropout, 3.injected_dropout "
        "(2 in all). The model was not trained with it, so the spread of its predictions "
        "is not that of a trained posterior. Train the returned model, or choose p on held-out "
        "data."
    )
    assert warning.filename == __file__


@pytest.mark.parametrize(
    ("after", "names"),
    [
        ((), ["1", "3"]),
        ((nn.ReLU,), ["1"]),
        (("3",), ["3"]),
        ((nn.ReLU, "3", "1"), ["1", "3"]),
        ((nn.Linear,), ["0", "2", "4"]),
    ],
)
def test_sites_are_what_was_asked_for(after: tuple[Any, ...], names: list[str]) -> None:
    dropped = inject(mlp(), 0.3, *after)
    expected = tuple(f"{name}.injected_dropout" for name in names)
    assert dropped.injected == expected
    sites = mcdrop.wrap(dropped).sites(X)
    assert tuple(site.name for site in sites) == expected
    assert [(site.p, site.kind) for site in sites] == [(0.3, "dropout")] * len(names)


@pytest.mark.parametrize("after", [nn.ReLU, "1"])
def test_a_single_type_or_name_needs_no_tuple(after: Any) -> None:
    with pytest.warns(UserWarning, match="1 in all"):
        dropped = inject_dropout(mlp(), 0.3, after)
    assert vars(dropped)["injected"] == ("1.injected_dropout",)


@pytest.mark.parametrize("strategy", ["vectorized", "sequential"])
def test_variance_is_that_of_dropout_in_that_place(strategy: Any) -> None:
    torch.manual_seed(0)
    p = 0.3
    last = nn.Linear(8, 1)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), last).double()
    x = X.double()
    hidden = net[1](net[0](x)).detach()
    variance = p / (1 - p) * (hidden * last.weight.detach()).square().sum(dim=1, keepdim=True)
    n = 20_000 if strategy == "vectorized" else 4000
    assert_moments(draw(inject(net, p), x, n, strategy), net(x).detach(), variance)


def test_shared_instances_are_followed_by_dropout_wherever_they_are_called() -> None:
    dropped = inject(Tangle())
    assert dropped.injected == (
        "act.injected_dropout",
        "heads.a.injected_dropout",
        "tail.0.1.injected_dropout",
    )
    assert dropped.alias is dropped.act
    called = [site.name for site in mcdrop.wrap(dropped).sites(X)]
    assert called == [
        "act.injected_dropout",
        "act.injected_dropout#2",
        "heads.a.injected_dropout",
        "act.injected_dropout#3",
        "tail.0.1.injected_dropout",
    ]
    assert inject(Tangle(), 0.5, "alias").injected == ("act.injected_dropout",)
    assert inject(Tangle(), 0.5, "blocks.1").injected == ("blocks.1.injected_dropout",)


def test_sequential_gets_dropout_as_its_last_step() -> None:
    net = mlp().eval()
    dropped = inject(net, 0.5, "", "1")
    assert dropped.injected == ("injected_dropout", "1.injected_dropout")
    assert isinstance(dropped[-1], nn.Dropout)
    names = [site.name for site in mcdrop.wrap(dropped).sites(X)]
    assert names == ["1.injected_dropout", "injected_dropout"]
    assert torch.equal(dropped(X), net(X))
    nested = inject(Tangle(), 0.5, "tail.0")
    assert [site.name for site in mcdrop.wrap(nested).sites(X)] == ["tail.0.injected_dropout"]


@pytest.mark.parametrize("model", [mlp, Tangle])
@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_alone_and_the_copy_is_its_like(
    model: Callable[[], nn.Module], training: bool
) -> None:
    own = model().train(training)
    next(own.children()).train(not training)
    before = (repr(own), own.state_dict(), [m.training for m in own.modules()], sorted(vars(own)))
    random_state = torch.get_rng_state()
    dropped = inject(own)
    names = dropped.injected
    after = (repr(own), own.state_dict(), [m.training for m in own.modules()], sorted(vars(own)))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert str(after) == str(before)
    assert not any(m._forward_hooks for m in own.modules())
    assert type(dropped) is type(own)
    assert dropped.state_dict().keys() == own.state_dict().keys()
    assert all(a is b for a, b in zip(dropped.parameters(), own.parameters(), strict=True))
    for name, module in own.named_modules():
        assert dropped.get_submodule(name).training is module.training
    for name in names:
        parent = name.removesuffix(".injected_dropout")
        assert dropped.get_submodule(name).training is own.get_submodule(parent).training


def test_eval_mode_computes_what_the_model_does_and_train_mode_drops() -> None:
    net = mlp().eval()
    dropped = inject(net)
    assert torch.equal(dropped(X), net(X))
    assert not torch.equal(dropped.train()(X), net(X))
    dropped(X).sum().backward()
    assert net.get_parameter("0.weight").grad is not None


def test_batch_norm_statistics_are_the_copys_own() -> None:
    net = ConvNet().train()
    dropped = inject(net)
    mean = net.get_buffer("features.1.running_mean")
    before = mean.clone()
    dropped(IMAGES)
    assert torch.equal(mean, before)
    assert not torch.equal(dropped.get_buffer("features.1.running_mean"), before)


def test_dropout2d_drops_whole_channels_of_images_and_single_units_of_vectors() -> None:
    dropped = inject(ConvNet().eval(), 0.5, kind="dropout2d")
    assert dropped.injected == (
        "features.2.injected_dropout",
        "classifier.1.injected_dropout",
    )
    sites = mcdrop.wrap(dropped).sites(IMAGES)
    assert [(site.name, site.kind) for site in sites] == [
        ("features.2.injected_dropout", "dropout2d"),
        ("classifier.1.injected_dropout", "dropout"),
    ]
    assert isinstance(dropped.features[2].injected_dropout, nn.Dropout2d)
    images = nn.Sequential(nn.ReLU())
    passes = draw(inject(images, 0.5, kind="dropout2d"), torch.ones(5, 3, 4, 4), 20).flatten(3)
    assert bool((passes == passes[..., :1]).all())
    single = draw(inject(images, 0.5), torch.ones(5, 3, 4, 4), 20).flatten(3)
    assert not bool((single == single[..., :1]).all())


def test_prediction_is_vectorized_and_rates_can_be_overridden_by_name() -> None:
    dropped = inject(ConvNet().eval(), 0.5)
    prediction = mcdrop.predict_with_uncertainty(dropped, IMAGES, task="classification", seed=0)
    assert prediction.run is not None
    assert prediction.run.strategy == "vectorized"
    assert bool((prediction.mutual_information > 0).all())
    mc = mcdrop.wrap(dropped, p={dropped.injected[0]: 0.0, dropped.injected[1]: 0.2})
    assert [site.p for site in mc.sites(IMAGES)] == [0.0, 0.2]
    assert torch.equal(mcdrop.wrap(dropped, p=0.0)(IMAGES), dropped(IMAGES))


@pytest.mark.parametrize(
    "remake", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"]
)
def test_copies_and_pickles_keep_the_dropout(remake: Callable[[Any], Any]) -> None:
    dropped = inject(Tangle().eval())
    again = remake(dropped)
    assert again.injected == dropped.injected
    assert torch.equal(draw(again, X, 5), draw(dropped, X, 5))


def test_transformer_layers_can_be_followed_inside() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(3, 5, 8)
    dropped = inject(net, 0.5, "layers.1.linear1")
    torch.testing.assert_close(dropped(x), net(x), rtol=1e-4, atol=1e-5)
    passes = mcdrop.wrap(dropped).sample(x, 8, seed=0)
    assert bool((passes.std(dim=0) > 0).all())


def test_model_without_such_modules_is_refused() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.linear(x))

    with pytest.raises(NoDropoutError, match=r"put dropout after \(ReLU, .*Tanh\), but got Func"):
        inject_dropout(Functional(), 0.5)
    with pytest.raises(NoDropoutError, match=r"put dropout after \(LSTM, GRU\)"):
        inject_dropout(mlp(), 0.5, (nn.LSTM, nn.GRU))
    with pytest.raises(NoDropoutError, match=r"put dropout after \(nothing\)"):
        inject_dropout(mlp(), 0.5, ())


def test_unknown_names_are_refused_even_if_others_match() -> None:
    with pytest.raises(RangeError, match=r"names among 0, 1, 2, 3, 4, but got 'relu', '9'\. Take"):
        inject_dropout(mlp(), 0.5, (nn.ReLU, "relu", "9"))


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_bad_rates_are_refused(p: float) -> None:
    with pytest.raises(RangeError, match=r"inject_dropout: expected `p` to lie in \[0, 1\)"):
        inject_dropout(mlp(), p)


def test_unknown_kinds_are_refused() -> None:
    kind: Any = "alpha"
    with pytest.raises(RangeError, match='`kind` to be one of "dropout", "dropout2d"'):
        inject_dropout(mlp(), 0.5, kind=kind)


def test_a_second_injection_is_refused() -> None:
    dropped = inject(mlp())
    for model in (dropped, nn.Sequential(dropped)):
        with pytest.raises(UnsupportedError, match="have neither injected dropout nor"):
            inject_dropout(model, 0.5)


def test_containers_that_run_their_modules_themselves_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="but got blocks, a ModuleList that runs"):
        inject_dropout(Tangle(), 0.5, ("blocks",))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_outputs_that_are_not_one_tensor_are_refused() -> None:
    dropped = inject(nn.Sequential(nn.Linear(4, 4), Pair()), 0.5, Pair)
    with pytest.raises(OutputError, match="return one tensor, but got Pair, which returns tuple"):
        dropped(X)
    with pytest.raises(UnsupportedError, match="output can be dropped, but got 0, a LSTMCell"):
        inject_dropout(nn.Sequential(nn.LSTMCell(4, 3)), 0.5, (nn.LSTMCell,))


class Recurrent(nn.Module):
    """Reads the sequence, or the last hidden state, of a recurrent layer; packed or not."""

    def __init__(self, kind: type[nn.RNNBase], reads: str) -> None:
        super().__init__()
        self.layer: Any = kind(4, 5, batch_first=True)  # type: ignore[arg-type, call-arg]
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        if self.reads == "packed":
            lengths = torch.tensor([3] * len(x))
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)  # type: ignore[assignment]
        sequence, state = self.layer(x)
        if self.reads == "state":
            hidden: Tensor = state[0] if isinstance(state, tuple) else state
            return hidden[0]
        if self.reads == "packed":
            sequence, _ = nn.utils.rnn.pad_packed_sequence(sequence, batch_first=True)
        last: Tensor = sequence[:, -1]
        return last


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("reads", ["sequence", "state", "packed"])
def test_recurrent_layers_drop_units_of_sequence_and_state(
    kind: type[nn.RNNBase], reads: str
) -> None:
    torch.manual_seed(0)
    net = Recurrent(kind, reads).double().eval()
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    dropped = inject(net, 0.3, kind)
    torch.testing.assert_close(dropped(x), net(x))
    hidden = net(x).detach()
    assert_moments(draw(dropped, x, 4000), hidden, 0.3 / 0.7 * hidden.square())


def test_attention_drops_units_of_its_output() -> None:
    torch.manual_seed(0)

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.attention(x, x, x)[0]
            return out[:, 0]

    net = Attends().double().eval()
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    hidden = net(x).detach()
    passes = draw(inject(net, 0.3, nn.MultiheadAttention), x, 4000)
    assert_moments(passes, hidden, 0.3 / 0.7 * hidden.square())


def test_models_that_hide_their_modules_are_refused() -> None:
    compiled: Any = torch.compile(mlp(), backend="eager")
    parallel = nn.Sequential(nn.DataParallel(mlp()))
    with warnings.catch_warnings():
        # TorchScript is deprecated in newer torch.
        warnings.simplefilter("ignore")
        scripted: Any = torch.jit.script(mlp())
    for model, name in (
        (compiled, "OptimizedModule at the root"),
        (parallel, "DataParallel at 0"),
        (scripted, "RecursiveScriptModule at the root"),
    ):
        with pytest.raises(UnsupportedError, match=f"consist of plain modules, but got {name}"):
            inject_dropout(model, 0.5)
    function: Any = mlp().forward
    with pytest.raises(UnsupportedError, match=r"be a torch\.nn\.Module, but got method"):
        inject_dropout(function, 0.5)
