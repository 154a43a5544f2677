"""The cost of a step: FLOPs by hand, memory by known allocations, each row in its own process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from g2dbench.errors import BadData, Misuse
from g2dbench.training import step_cost
from g2dbench.training.step_cost import Workload

pytestmark = pytest.mark.integration

MICRO = """
name = "micro"
method = "{method}"
[model]
width = 8
[model.image]
encoder = "resnet18"
size = 64
[model.text]
{text}
[optim]
batch_size = 4
"""
SMALL = "vocab_size = 50\nlayers = {layers}\nhidden = 16\nheads = 2\nmax_length = 24"


def recipe(folder: Path, method: str = "convirt", text: str = SMALL.format(layers=1)) -> str:
    path = folder / f"{method}{len(text)}.toml"
    path.write_text(MICRO.format(method=method, text=text))
    return str(path)


def workload(**changes: Any) -> Workload:
    return Workload(**{"steps": 1, "device": "cpu", "precision": "fp32", **changes})


def measured(name: str, **changes: Any) -> list[step_cost.Cost]:
    return [step_cost._measure(job) for job in step_cost.make_jobs([name], workload(**changes))]


def test_flops_of_a_text_layer_are_those_by_hand(tmp_path: Path) -> None:
    found = []
    for layers in (1, 2):
        text = SMALL.format(layers=layers) + " " * layers
        (cost,) = measured(recipe(tmp_path, text=text), report_length=20)
        found.append(cost.gflop_per_image * 1e9)
    tokens, width = 20, 16
    linear = 2 * tokens * (4 * width**2 + 2 * width * 4 * width)
    attention = 2 * 2 * tokens**2 * width
    # Backward is twice the forward pass: to the input and to the weight.
    assert found[1] - found[0] == pytest.approx(3 * (linear + attention), rel=1e-6)


def test_flops_of_an_image_are_those_of_the_published_resnet(tmp_path: Path) -> None:
    small, large = (
        measured(recipe(tmp_path), image_size=size, report_length=3)[0] for size in (64, 128)
    )
    difference = (large.gflop_per_image - small.gflop_per_image) / (128**2 - 64**2)
    # ResNet-18 has 1.814 G multiplications at 224 px, 1.000 M of them in the classifier; of the
    # first convolution (118 M) no gradient to the image is needed.
    wanted = 2 * (3 * (1.814 - 0.0005) - 0.118) / 224**2
    assert difference == pytest.approx(wanted, rel=0.01)


def test_g2d_is_measured_with_and_without_its_decoder(tmp_path: Path) -> None:
    less, more = measured(recipe(tmp_path, "g2d"))
    assert (less.trains, more.trains) == ("encoder only", "encoder + decoder")
    assert less.learning < more.learning == more.weights == less.weights
    assert less.gflop_per_image < more.gflop_per_image
    assert (more.batch_size, more.image_size, more.report_length) == (4, 64, 24)
    (sentence,) = step_cost.compare_variants([less, more])
    ratio = more.gflop_per_image / less.gflop_per_image
    assert f"{ratio:.2f} times the FLOPs" in sentence
    assert step_cost.compare_variants([more]) == []


def test_a_row_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    (job,) = step_cost.make_jobs([recipe(tmp_path)], workload())
    ballast = torch.ones(64 * 2**20)  # 256 MiB here, which must not count there
    cost = step_cost.measure(job)
    assert ballast.sum() > 0
    weights = cost.weights * 4 / 2**20
    # Weights, gradients and AdamW's two moments, at least.
    assert 4 * weights * 0.9 < cost.peak_mib < 4 * weights + 250
    step_cost.save([cost], tmp_path / "costs.json")
    (kept,) = json.loads((tmp_path / "costs.json").read_text())
    assert kept["weights"] == cost.weights
    assert kept["images_per_s"] > 0


GROWTH = """
import torch
from g2dbench.system.peak_memory import MemoryGrowth
held = torch.ones(20 * 2**20)
growth = MemoryGrowth(torch.device("cpu"))
for _ in range(2):
    torch.ones(30 * 2**20).sum()
print(growth.mib())
"""
"""Allocates and frees 120 MiB twice."""


def test_memory_growth_is_the_peak_of_allocations() -> None:
    """In its own process, as in `profile`: memory of earlier tests may be freed meanwhile."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True
    )
    assert 115 < float(done.stdout) < 150


def test_published_encoders_are_built_from_sizes_on_request(tmp_path: Path) -> None:
    name = recipe(tmp_path, text='source = "no/such-bert"\nmax_length = 24')
    (job,) = step_cost.make_jobs([name], workload())
    with pytest.raises(BadData, match="no tokenizer at 'no/such-bert'"):
        step_cost._measure(job)
    (job,) = step_cost.make_jobs([name], workload(random_weights=True))
    text = job.recipe.model["text"]
    assert (text["layers"], text["hidden"], text["max_length"]) == (12, 768, 24)
    (paper, *_) = step_cost.make_jobs(["g2d-paper"], workload(random_weights=True))
    assert paper.recipe.model["image"]["weights"] == ""


@pytest.mark.slow
def test_the_error_of_an_encoder_that_cannot_be_loaded_names_the_way_out(tmp_path: Path) -> None:
    name = recipe(tmp_path, text='source = "no/such-bert"\nmax_length = 24')
    (job,) = step_cost.make_jobs([name], workload())
    with pytest.raises(BadData, match=r"no/such-bert.*--random-weights builds a BERT-base"):
        step_cost.measure(job)


def test_impossible_workloads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no recipe 'g2d-tny': did you mean 'g2d-tiny'"):
        step_cost.make_jobs(["g2d-tny"], workload())
    with pytest.raises(Misuse, match="micro truncates reports at 24 tokens"):
        measured(recipe(tmp_path), report_length=25)
    with pytest.raises(Misuse, match=r"image.size"):
        measured(recipe(tmp_path), image_size=50)
