"""The benchmark scripts run, at tiny size; what they say about speed there means nothing."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

MASKS = ("independent", "shared")
FOLDER = Path(__file__).parent.parent / "examples" / "benchmarks"


def run(script: str, tmp_path: Path, *options: str) -> tuple[str, dict[str, Any]]:
    out = tmp_path / "numbers.json"
    command = [sys.executable, str(FOLDER / script), "--smoke", "--threads", "1", *options]
    command += ["--json", str(out), "--date", "2026-01-01"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(out.read_text())
    assert content["date"] == "2026-01-01"
    assert content["command"].startswith(f"python examples/benchmarks/{script} --smoke")
    assert str(tmp_path) not in out.read_text()
    assert set(content["hardware"]) == {"cpu", "cores", "torch_threads", "device"}
    return done.stdout, content


@pytest.mark.slow
def test_speed_measures_and_checks_every_workload(tmp_path: Path) -> None:
    text, content = run("speed.py", tmp_path, "--repeats", "2")
    names = [each["workload"] for each in content["workloads"]]
    assert names == ["cnn-head", "mlp-p0.1", "mlp-p0.5", "uci", "lstm", "transformer", "residual"]
    for each in content["workloads"]:
        assert each["limit"]["ratio"] > 0
        assert each["independent"]["agreement"]["holds"]
        assert each["shared"]["agreement"]["holds"]
        assert f"| {each['workload']}" in text


@pytest.mark.slow
def test_race_reports_the_absent_as_absent(tmp_path: Path) -> None:
    options = ["--repeats", "2", "--workload", "uci", "--env", "baal=nowhere"]
    for name in ("replicated batch", "torch-uncertainty", "baal", "mcdrop"):
        options += ["--contestant", name]
    text, content = run("compare.py", tmp_path, *options)
    reports = content["contestants"]
    assert reports["torch-uncertainty"] == {"absent": "no interpreter given"}
    assert "does not start" in reports["baal"]["absent"]
    for name in ("replicated batch", "mcdrop"):
        assert reports[name]["workloads"]["uci"]["agreement"]["holds"], name
    assert "absent" in text


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_fewer_passes_are_weighed_on_every_network(tmp_path: Path) -> None:
    text, content = run("fewer_passes.py", tmp_path)
    names = [each["network"] for each in content["results"] if each["n_samples"] == 16]
    assert names == ["MLP", "LSTM", "CNN, logits", "CNN, probabilities"]
    # With more passes the error of a linear network is that of the short reference run.
    assert all(r["error_ratio"] > 1 for r in content["results"] if r["n_samples"] == 16)
    assert "| LSTM" in text


@pytest.mark.slow
def test_statements_about_passes_are_simulated(tmp_path: Path) -> None:
    text, content = run("statements_passes.py", tmp_path)
    for each in content["statements"]:
        assert set(each) == {"statement", "n", "nominal", "simulated", "se", "repetitions"}
    covered = [each for each in content["statements"] if "standard errors" in each["statement"]]
    widened = [each for each in covered if "jackknife alone" not in each["statement"]]
    assert len(covered) == 2 * len(widened) > 0
    assert all(each["simulated"] > 0.5 for each in widened)
    assert "| fair CRPS" in text


@pytest.mark.slow
def test_scaling_is_measured_and_drawn(tmp_path: Path) -> None:
    figure = tmp_path / "scaling.png"
    text, content = run("scaling.py", tmp_path, "--repeats", "1", "--figure", str(figure))
    assert [point["at"] for point in content["passes"]] == [4, 8]
    assert all(ms > 0 for point in content["share"] for ms in point["ms"].values())
    assert figure.stat().st_size > 10_000
    assert "rows, N" in text


@pytest.mark.slow
def test_optional_paths_are_switched_on_and_off(tmp_path: Path) -> None:
    text, content = run("kernels.py", tmp_path, "--workload", "uci")
    (uci,) = content["gains"]
    assert uci["Numba"]["independent"]["gain"] > 0
    assert uci["dropped weight columns"]["shared"]["gain"] > 0
    assert "| uci " in text


@pytest.mark.slow
def test_memory_is_measured_over_its_baseline(tmp_path: Path) -> None:
    text, content = run("memory.py", tmp_path)
    assert [result["n_samples"] for result in content["results"]] == [10, 20]
    assert all(result["over_mib"] >= 0 for result in content["results"])
    assert "growth of the peak" in text


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_a_stream_is_compared_with_one_call(tmp_path: Path) -> None:
    text, content = run("streaming.py", tmp_path)
    assert [result["rows"] for result in content["results"]] == [1_000, 3_000]
    assert all(result["largest_difference"] < 1e-3 for result in content["results"])
    assert "| streamed MiB" in text


@pytest.mark.slow
def test_an_export_is_compared_with_the_library_and_with_single_passes(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    text, content = run("exporting.py", tmp_path)
    assert [result["rows"] for result in content["results"]] == [1, 16, 1, 16]
    for result in content["results"]:
        assert set(result["ms"]) == {"library", ".pt2", ".onnx", "S programs"}
        assert max(result["off"].values()) < 1e-4
        assert result["bytes"]["S programs"] > result["bytes"][".pt2"] > 0
    assert "| MLP 20-64-64-1" in text


@pytest.mark.slow
def test_workers_of_ray_return_the_rows_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="`make integrations` installs ray")
    text, content = run("ray_scaling.py", tmp_path, "--workers", "2")
    assert [result["workers"] for result in content["results"]] == [0, 2]
    assert all(result["largest_difference"] < 1e-3 for result in content["results"])
    assert "one process, no Ray" in text


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def test_unknown_workload_is_refused(scripts: Callable[[str], Any]) -> None:
    with pytest.raises(SystemExit, match=r"expected one of \['cnn-head'"):
        scripts("workloads").chosen(["guess"], "cpu", smoke=False)


def test_agreement_tells_a_right_answer_from_a_wrong_one(scripts: Callable[[str], Any]) -> None:
    agreement = scripts("agreement")
    torch.manual_seed(0)

    def pooled(passes: Tensor) -> Any:
        pool = agreement.Pool()
        for part in passes.split(100):
            pool.add(part.mean(dim=0), part.var(dim=0), len(part))
        return pool

    samples = torch.randn(500, 40, 1)
    reference, kurtosis = pooled(samples), agreement.kurtosis_of(samples)
    mean, variance = reference.moments()
    torch.testing.assert_close(mean, samples.double().mean(dim=0), atol=1e-6, rtol=0)
    torch.testing.assert_close(variance, samples.double().var(dim=0), atol=0, rtol=1e-5)
    draws = torch.randn(500, 40, 1)
    assert agreement.compared(pooled(draws), reference, kurtosis).holds
    for wrong in (draws * 2, draws + 1, draws * 0):
        assert not agreement.compared(pooled(wrong), reference, kurtosis).holds


def test_the_page_of_guarantees_is_made_from_the_records(scripts: Callable[[str], Any]) -> None:
    statements = scripts("statements")
    written = (FOLDER.parents[1] / "docs" / "statements.md").read_text()
    assert written == statements.page()
    passes = (FOLDER.parents[1] / "docs" / "how-many-passes.md").read_text()
    assert passes == statements.with_tables(passes)


@pytest.mark.slow
def test_estimators_are_compared_on_tables(tmp_path: Path) -> None:
    text, content = run("tabular.py", tmp_path, "--dataset", "diabetes", "--dataset", "digits")
    for name, measure in (("diabetes", "RMSE"), ("digits", "error rate")):
        found = content["results"][name]
        assert found["measure"] == measure
        assert set(found["errors"]) == {"mcdrop", "ridge", "MLP", "forest"}
        assert all(each["low"] <= each["value"] for each in found["difference"].values())
        assert f"| {name}" in text


@pytest.mark.slow
def test_time_to_accuracy_is_measured_for_every_way(tmp_path: Path) -> None:
    image = tmp_path / "errors.png"
    text, content = run("time_to_accuracy.py", tmp_path, "--image", str(image))
    assert image.stat().st_size > 0
    assert len(content["results"]) == 7
    for each in content["results"]:
        times = each["seconds_to_goal"]
        assert set(each["ways"]) == set(times)
        assert all(times[way] > 0 for way in ("loop", "independent", "default", "controlled"))
        assert each["network"] in text


@pytest.mark.slow
def test_the_control_variate_of_classes_is_measured_for_every_quantity(tmp_path: Path) -> None:
    text, content = run("classes_control.py", tmp_path)
    assert {each["network"] for each in content["results"]} == {"digits MLP", "CNN", "transformer"}
    for each in content["results"]:
        assert set(each["worth"]) == set(each["coverage"])
        assert all(0 <= share <= 1 for share in each["coverage"].values())
        assert each["network"] in text


def test_propagated_moments_are_exact_for_normal_inputs(scripts: Callable[[str], Any]) -> None:
    script = scripts("variance_propagation")
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 2)
    net = torch.nn.Sequential(torch.nn.Dropout(0.25), layer)
    x = torch.randn(5, 6)
    mean, variance = script.propagated(net.eval(), x)
    torch.testing.assert_close(mean, net(x))
    # Var[W (m x)] = p / (1 - p) W^2 x^2.
    torch.testing.assert_close(variance, x.square() @ layer.weight.square().T / 3)
    # E[max(0, z)] = 1 / sqrt(2 pi) and E[max(0, z)^2] = 1 / 2 for a standard normal z.
    first, second = script._rectified(torch.zeros(1), torch.ones(1))
    assert float(first) == pytest.approx((2 * math.pi) ** -0.5)
    assert float(second) == pytest.approx(0.5 - 1 / (2 * math.pi))


def test_antithetic_passes_come_in_pairs(scripts: Callable[[str], Any]) -> None:
    net = scripts("variance_propagation").antithetic_copy(
        torch.nn.Sequential(torch.nn.Dropout(0.5))
    )
    passes = torch.stack([net(torch.ones(1000)) for _ in range(4)])
    # At p = 1/2 the second of a pair keeps what the first drops, and kept units are doubled.
    torch.testing.assert_close(passes[0] + passes[1], torch.full((1000,), 2.0))
    torch.testing.assert_close(passes[2] + passes[3], torch.full((1000,), 2.0))
    assert not torch.equal(passes[0], passes[2])


def test_levels_are_unbiased_and_no_better_than_their_passes_together(
    scripts: Callable[[str], Any],
) -> None:
    draws = torch.randn(20_000, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    passes = draws.T
    mean, variance = scripts("variance_propagation").multilevel(passes)
    # Three levels of 16 passes each. Means of blocks are those of their halves.
    torch.testing.assert_close(mean, passes[:16].mean(dim=0))
    # Four standard errors of a variance from 16 of the passes.
    assert variance.mean().item() == pytest.approx(1, abs=4 * (2 / 15 / 20_000) ** 0.5)
    assert (variance - 1).square().mean() > (passes.var(dim=0) - 1).square().mean()


def test_time_to_an_accuracy_is_read_between_points_and_beyond_them(
    scripts: Callable[[str], Any],
) -> None:
    script = scripts("time_to_accuracy")
    points = [
        {"seconds": 1.0, "mean": 0.01, "std": 0.04},
        {"seconds": 4.0, "mean": 0.0025, "std": 0.01},
    ]
    # The standard deviation decides: 0.02 lies halfway between the points on log scales.
    assert script.time_to(points, {"mean": 0.02, "std": 0.02}) == pytest.approx(2.0)
    # A quarter of the last error takes four times its time.
    assert script.time_to(points, {"mean": 0.0025, "std": 0.0025}) == pytest.approx(16.0)
    assert script.time_to(points, {"mean": 0.1, "std": 0.1}) == 1.0
    # An error that no passes reduce stays.
    assert script.time_to(points[:1], {"mean": 0.1, "std": 0.01}) is None


@pytest.mark.slow
def test_users_sizes_are_raced_first_and_later(tmp_path: Path) -> None:
    text, content = run("user_sizes.py", tmp_path, "--repeats", "2", "--workload", "mlp-row")
    assert [each["workload"] for each in content["workloads"]] == ["mlp-row"]
    for each in content["workloads"]:
        assert all(each["agreement"].values())
        wanted = {f"{call} {masks}" for call in ("first", "later") for masks in MASKS}
        assert set(each["ratios"]) == {"dense", "of a process", *wanted}
    assert "| one row, MLP" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["cnn-image", "bert", "resnet", "resnet-head", "encoder", "unet", "segmentation"]
)
def test_larger_networks_of_users_sizes_run(name: str, tmp_path: Path) -> None:
    # Of many numbers, some spreads over eight passes are off by more than a normal law allows.
    repeats = "8" if name == "segmentation" else "2"
    _, content = run("user_sizes.py", tmp_path, "--repeats", repeats, "--workload", name)
    assert all(content["workloads"][0]["agreement"].values())


def test_without_a_device_nothing_is_run_and_that_is_said(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    command = [sys.executable, str(FOLDER / "gpu.py"), "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "No CUDA device was found, so nothing was run and nothing was measured."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_steps_of_a_device_run(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "gpu.py"), "--folder", str(tmp_path), "--smoke"]
    command += ["--device", "cpu", "--date", "2026-01-01"]
    for name in ("speed", "race", "memory", "time_to_accuracy"):
        command += ["--step", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [each["outcome"] for each in found["steps"]] == ["passed"] * 4, done.stderr[-2000:]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"gpu.json", *(f"{each['step']}_cuda.json" for each in found["steps"])}


def test_a_step_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "gpu.py"), "--folder", str(tmp_path), "--smoke"]
    command += ["--device", "cpu", "--step", "memory", "--limit", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (step,) = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    assert step["outcome"] == "stopped after 0.01 s"
