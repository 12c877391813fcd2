"""The structural copy: the same weights in a tree of its own, and nothing points back."""

from __future__ import annotations

import functools
import weakref
from collections import OrderedDict, deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop._twin.copy import structural_copy, written_to


class Holder(nn.Module):
    """Holds whatever it is given as attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return x


def copied(model: Any, **options: Any) -> Any:
    return structural_copy(model, **options)


def test_parameters_are_shared_and_buffers_cloned() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    copy = copied(model)
    for name, parameter in model.named_parameters():
        assert copy.get_parameter(name) is parameter
    for name, buffer in model.named_buffers():
        own = copy.get_buffer(name)
        assert torch.equal(own, buffer)
        assert own.data_ptr() != buffer.data_ptr()


def test_every_module_is_copied_and_in_eval_mode_while_the_original_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.Dropout(0.5))).train()
    copy = copied(model)
    assert [name for name, _ in copy.named_modules()] == [name for name, _ in model.named_modules()]
    for own, original in zip(copy.modules(), model.modules(), strict=True):
        assert own is not original
        assert type(own) is type(original)
        assert (own.training, original.training) == (False, True)


def test_what_is_tied_stays_tied() -> None:
    shared, weight, buffer = nn.Dropout(0.5), nn.Parameter(torch.ones(2)), torch.ones(3)
    inner = nn.Sequential(shared)
    model = Holder(a=shared, b=inner, left=weight, right=weight)
    model.register_buffer("one", buffer)
    inner.register_buffer("two", buffer)
    for options in ({}, {"dtype": torch.float64}, {"device": torch.device("meta")}):
        copy = copied(model, **options)
        assert copy.a is copy.b[0]
        assert copy.left is copy.right
        assert copy.one is copy.b.two


def test_a_module_that_holds_its_parent_is_no_endless_loop() -> None:
    child = Holder()
    parent = Holder(child=child, list=[child])
    child.__dict__["up"] = [parent]
    copy = copied(parent)
    assert copy.child.up[0] is copy
    assert copy.list[0] is copy.child


@pytest.mark.parametrize("kind", [list, tuple, set, deque])
def test_modules_in_containers_are_those_of_the_copy(kind: Any) -> None:
    drop = nn.Dropout(0.5)
    copy = copied(Holder(drop=drop, held=kind([drop])))
    assert type(copy.held) is kind
    assert list(copy.held) == [copy.drop]


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_modules_in_mappings_are_those_of_the_copy(kind: Any) -> None:
    drop = nn.Dropout(0.5)
    copy = copied(Holder(drop=drop, held=kind(a=drop, b=kind(c=[drop]))))
    assert type(copy.held) is kind
    assert copy.held["a"] is copy.drop
    assert copy.held["b"]["c"][0] is copy.drop


def test_containers_are_the_copys_own_also_while_they_are_empty() -> None:
    log: list[int] = []
    table: dict[str, int] = {}
    copy = copied(Holder(log=log, table=table))
    copy.log.append(1)
    copy.table["a"] = 1
    assert (log, table) == ([], {})


def test_bound_methods_and_partial_functions_point_into_the_copy() -> None:
    linear = nn.Linear(2, 2)
    model = Holder(
        linear=linear,
        method=linear.forward,
        partial=functools.partial(torch.add, other=linear),
        chained=functools.partial(linear.forward),
    )
    copy = copied(model)
    assert copy.method.__self__ is copy.linear
    assert copy.partial.keywords["other"] is copy.linear
    assert copy.partial.func is torch.add
    assert copy.chained.func.__self__ is copy.linear


def test_everything_else_is_shared() -> None:
    thing = object()
    copy = copied(Holder(thing=thing, number=3, function=torch.relu, type=nn.Linear))
    assert copy.thing is thing
    assert (copy.number, copy.function, copy.type) == (3, torch.relu, nn.Linear)


def test_hooks_run_on_the_copy_and_hooks_of_the_copy_do_not_reach_the_model() -> None:
    seen: list[nn.Module] = []
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].register_forward_hook(lambda module, *_: seen.append(module))
    copy = copied(model)
    copy[0].register_forward_hook(lambda *_: seen.append(copy))
    copy(torch.ones(1, 2))
    model(torch.ones(1, 2))
    assert seen == [copy[0], copy, model[0]]


def test_another_type_or_device_moves_the_copy_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    double = copied(model, dtype=torch.float64)
    kinds = {name: x.dtype for name, x in double.state_dict().items()}
    assert kinds.pop("1.num_batches_tracked") == torch.int64
    assert set(kinds.values()) == {torch.float64}
    assert not double[0].bias.requires_grad
    assert double[0].weight.requires_grad
    assert double[0].weight.is_leaf
    elsewhere = copied(model, device=torch.device("meta"))
    assert {x.device.type for x in elsewhere.state_dict().values()} == {"meta"}
    assert {x.device.type for x in model.state_dict().values()} == {"cpu"}
    assert model[0].weight.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_and_parallel_wrappers_are_left_out_wherever_they_are() -> None:
    inner = nn.Linear(2, 2)
    wrappers: list[Any] = [nn.DataParallel(inner), torch.compile(inner)]
    for wrapper in wrappers:
        assert type(copied(wrapper)) is nn.Linear
        copy = copied(nn.Sequential(wrapper, nn.Dropout(0.5)))
        assert type(copy[0]) is nn.Linear
        assert copy[0].weight is inner.weight
    inner.compile()
    assert copied(inner)._compiled_call_impl is None
    assert inner._compiled_call_impl is not None


def test_gradients_reach_the_weights_of_the_model() -> None:
    model = nn.Linear(2, 1)
    copied(model)(torch.ones(1, 2)).sum().backward()
    assert model.weight.grad is not None
    assert torch.equal(model.weight.grad, torch.ones(1, 2))


def test_hooks_of_the_user_see_values_rather_than_placeholders() -> None:
    seen: list[bool] = []
    net = nn.Sequential(
        nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
    )
    net[1].register_forward_hook(lambda module, args, out: seen.append(bool(out.isnan().any())))
    mcdrop.wrap(net).sample(torch.ones(4, 3), 4, strategy="sequential")
    mcdrop.wrap(net).sample(torch.ones(4, 3), 4)
    assert len(seen) > 4
    assert not any(seen)


def test_a_patched_forward_runs_on_the_copy() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    plain = net.forward
    net.forward = lambda x: plain(x) + 1  # type: ignore[method-assign, no-untyped-call]
    mean = net[0].running_mean
    assert isinstance(mean, torch.Tensor)
    before = mean.clone()
    found = mcdrop.wrap(net).sample(5 + torch.randn(8, 3), 32, seed=0)
    assert torch.equal(mean, before)
    # Dropped units are 0 + 1.
    assert 0.4 < (found == 1).double().mean().item() < 0.6


def test_helper_objects_and_weak_references_point_into_the_copy() -> None:
    class Helper:
        def __init__(self, layer: nn.Module) -> None:
            self.layer, self.calls = layer, 0

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.helper, self.weak = Helper(self.drop), weakref.ref(self.drop)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.helper.calls += 1
            weak = self.weak()
            assert weak is not None
            out: torch.Tensor = self.helper.layer(x) + weak(x)
            return out * self.helper.calls

    net = Net()
    found = mcdrop.wrap(net).sample(torch.ones(4, 3), 16, seed=0)
    assert net.helper.calls == 0
    assert found.unique().tolist() == [0.0, 2.0, 4.0]
    assert len(mcdrop.wrap(net).sites(torch.ones(4, 3))) == 2


def test_weights_that_an_embedding_renormalizes_are_found() -> None:
    tables = nn.ModuleList(
        [nn.Embedding(3, 2), nn.Embedding(3, 2, max_norm=1.0), nn.EmbeddingBag(3, 2, max_norm=1.0)]
    )
    assert written_to(tables) == {id(tables[1].weight), id(tables[2].weight)}
