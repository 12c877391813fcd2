"""Where passes are accumulated; `tests/test_device_path.py` shows it on a pretended device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcdrop._engine.groups import PassGroups
from mcdrop._engine.linearization import LinearPart
from mcdrop._tasks.home import Home, _moved
from mcdrop._tasks.regression import RegressionAccumulator
from mcdrop.prediction.regression import RegressionPrediction

META = torch.device("meta")
ON_CPU = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def test_passes_on_the_cpu_stay_as_they_are() -> None:
    home, linear = Home(), LinearPart(ON_CPU, torch.ones(3))
    chunk, part = home.bring(ON_CPU, linear)
    assert chunk is ON_CPU
    assert part is linear
    prediction = RegressionPrediction.from_samples(ON_CPU)
    assert home.send(prediction) is prediction


def test_large_passes_stay_on_their_device_and_so_do_smaller_ones_after_them() -> None:
    home = Home()
    for n_rows in (2**13, 2):
        chunk = torch.empty(9, n_rows, device=META)
        assert home.bring(chunk, None)[0] is chunk
    assert home.device == META


def test_small_passes_are_accumulated_on_the_host_and_the_result_is_sent_back() -> None:
    class There(Tensor):
        """Values that say they are on a device."""

        device = META

        def to(self, device: Any) -> Tensor:  # type: ignore[override]
            return self.as_subclass(Tensor)

    def make(*_: Any) -> RegressionAccumulator:
        return RegressionAccumulator("predict", 0, True, PassGroups(40))

    home, expected = Home(), make()
    accumulator = home.accumulating(make)(0, False, ())
    for first, count in ((0, 32), (32, 8)):
        chunk = ON_CPU[first : first + count]
        accumulator.update(chunk.as_subclass(There))
        expected.update(chunk)
    assert home.device == torch.device("cpu")
    found, whole = accumulator.result(), expected.result()
    assert all(map(torch.equal, found._tensors().values(), whole._tensors().values()))
    some = accumulator.rows(torch.tensor([2, 0])).result()
    torch.testing.assert_close(some.mean, whole.mean[[2, 0]])
    sent = home.send(found)
    assert {x.device for x in sent._tensors().values()} == {META}
    shapes = [{name: x.shape for name, x in each._tensors().items()} for each in (sent, whole)]
    assert shapes[0] == shapes[1]


def test_tensors_are_moved_together_by_type() -> None:
    given = [torch.randn(2, 3), torch.arange(4), torch.randn(()), torch.randn(0, 2)]
    found = _moved(given, torch.device("cpu"))
    for x, y in zip(given, found, strict=True):
        assert torch.equal(x, y)
        assert x.dtype == y.dtype
    floats = {found[i].untyped_storage().data_ptr() for i in (0, 2)}
    assert len(floats) == 1


def test_a_linear_part_moves_with_what_makes_more_of_it() -> None:
    part = LinearPart(ON_CPU, ON_CPU[0], lambda first, count: ON_CPU[first : first + count])
    moved = part.to(META)
    assert {moved.values.device, moved.variance.device} == {META}
    assert moved.fresh is not None
    assert moved.fresh(3, 5).device == META
    assert moved.fresh(3, 5).shape == (5, 3)
    assert LinearPart(ON_CPU, ON_CPU[0]).to(META).fresh is None
