"""Each exported format is loaded by its own library and gives the same numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from packaging.version import Version
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from typer.testing import CliRunner

from g2dbench.cards import MethodCard
from g2dbench.cli import app
from g2dbench.errors import BadCheckpoint, Misuse
from g2dbench.evaluation.model_reference import resolve
from g2dbench.pretrained.text.tokenizer import save_tokenizer, train_wordpiece
from g2dbench.recipes.recipe import Recipe
from g2dbench.registry import Registry
from g2dbench.runs.exports.formats import FORMATS, export
from g2dbench.runs.exports.hub import FILES, HubRun
from g2dbench.runs.folder import RunFolder, RunInfo, load_run

pytestmark = pytest.mark.integration

TEXTS = ["the heart is large", "no effusion"]
TEXT = {"layers": 1, "hidden": 16, "heads": 2, "max_length": 12}
TIMM = {"encoder": "tu-resnet18", "size": 64, "options": {"zero_init_last": False}}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_wordpiece([*TEXTS, "lungs are clear"], 60)


@pytest.fixture(scope="module")
def make_run(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Writes a finished run whose weights and running statistics differ from initial values."""

    def make(method: str = "g2d", **changes: Any) -> Path:
        image = {"encoder": "resnet18", "size": 64, "mean": [0.5], "std": [0.25]}
        table = {"width": 8, "image": image, "text": TEXT, **changes}
        built = Registry().find(MethodCard, method).load().build(table, tokenizer, 0)
        draw = torch.Generator().manual_seed(1)
        for value in (*built.parameters(), *built.buffers()):
            if value.is_floating_point() and value.ndim:
                value.data += 0.02 * (torch.rand(value.shape, generator=draw) - 0.4)
        folder = tmp_path_factory.mktemp("runs") / "run"
        info = RunInfo(
            label=f"my-{method}", recipe=Recipe(name=f"my-{method}", method=method), seed=0,
            architecture=built.architecture, data="synthetic", fingerprint="f" * 64, pairs=1,
            precision="fp32", device="cpu",
        )  # fmt: skip
        folder.mkdir()
        save_tokenizer(tokenizer, folder)
        RunFolder(folder, info).finish(built.state_dict())
        return folder

    return make


@pytest.fixture(scope="module")
def run(make_run: Callable[..., Path]) -> Path:
    return make_run()


@pytest.fixture(scope="module")
def model(run: Path) -> Any:
    return load_run(run)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("image", [None, TIMM])
def test_timm_and_transformers_load_the_encoder(
    image: dict | None, make_run: Callable[..., Path], images: Tensor, tmp_path: Path
) -> None:
    if Version(timm.__version__) < Version("1.0.31"):
        pytest.skip("older versions of timm read the safetensors of a local-dir: with torch.load")
    run = make_run("convirt", **({"image": image} if image else {}))
    model: Any = load_run(run)
    out = tmp_path / "out"
    export(model, run, out, "timm")
    network = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    same(network(images), model.pooled(images))
    data = timm.data.resolve_model_data_config(network)
    assert data["input_size"] == (3, 64, 64)
    assert data["crop_mode"] == "squash"
    assert set(data["mean"]) == {model.preprocess.mean[0]}
    wrapped = AutoModel.from_pretrained(out).eval()
    same(wrapped(images).pooler_output, model.pooled(images))


@torch.no_grad()
def test_torchvision_loads_the_encoder(
    model: Any, run: Path, images: Tensor, tmp_path: Path
) -> None:
    export(model, run, tmp_path / "out", "torchvision")
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()  # type: ignore[assignment]
    state = torch.load(tmp_path / "out" / "resnet18.pth", weights_only=True)
    network.load_state_dict(state)  # strict
    same(network.eval()(images), model.pooled(images))


@torch.no_grad()
@pytest.mark.parametrize("image", [None, {**TIMM, "depth": 3}])
def test_smp_loads_the_unet(
    image: dict | None, make_run: Callable[..., Path], images: Tensor, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {}
    if image:
        decoder = {"channels": [32, 16, 8]}
        changes = {"image": image, "decoder": decoder, "attention": {"stride": 8}}
    run = make_run("g2d", **changes)
    model: Any = load_run(run)
    export(model, run, tmp_path / "out", "smp")
    unet = smp.from_pretrained(tmp_path / "out").eval()
    wanted = model.pretrained_decoder().eval()(model.features(images))
    scale = float(wanted.abs().max())
    torch.testing.assert_close(unet(images) / scale, wanted / scale, atol=1e-5, rtol=0)


@torch.no_grad()
def test_hf_is_a_run_that_loads_and_encoders_for_transformers(
    model: Any, run: Path, images: Tensor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(model, run, out, "hf")
    again: Any = HubRun.from_pretrained(str(out)).load()
    assert again.identity == model.identity
    same(again.embed_images(images), model.embed_images(images))
    assert resolve(str(out), Registry()).run == out
    tokens = AutoTokenizer.from_pretrained(out / "text_model")(
        TEXTS, padding=True, return_tensors="pt"
    )
    bert = AutoModel.from_pretrained(out / "text_model").eval()
    ours = model.towers.text.encoder(tokens["input_ids"], tokens["attention_mask"])
    same(bert(**tokens).last_hidden_state, ours)
    network = AutoModel.from_pretrained(out / "image_encoder").eval()
    same(network(images).pooler_output, model.pooled(images))


def test_a_run_is_saved_and_pushed_with_the_files_that_a_model_needs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    HubRun(run).save_pretrained(tmp_path / "saved")
    assert {*FILES} <= {path.name for path in (tmp_path / "saved").iterdir()}
    pushed: dict[str, set[str]] = {}

    class Repository:
        repo_id = "lab/g2d"

    def upload(self: Any, *, repo_id: str, folder_path: Path, **_: Any) -> str:
        pushed[repo_id] = {path.name for path in Path(folder_path).iterdir()}
        return "done"

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: Repository())
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    HubRun(run).push_to_hub("lab/g2d")
    assert {*FILES} <= pushed["lab/g2d"]


def test_a_repository_that_is_nowhere_is_a_sentence() -> None:
    with pytest.raises(BadCheckpoint, match="hf download nobody/nothing --local-dir FOLDER"):
        HubRun.from_pretrained("nobody/nothing", local_files_only=True)


@pytest.mark.parametrize("target", FORMATS)
def test_a_format_that_cannot_hold_a_model_says_so_and_writes_nothing(
    target: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    cut_off = {**TIMM, "depth": 3}
    convirt = make_run("convirt", image=cut_off)
    out = tmp_path / "out"
    if target == "hf":
        export(load_run(convirt), convirt, out, target)
        assert (out / "image_encoder" / "encoder.safetensors").is_file()
        return
    sentence = {
        "timm": r"trained to depth 3, that is to stride 8; .* --to smp or --to hf",
        "torchvision": "--to timm",
        "smp": "has no U-Net",
        "open_clip": "no projector with ReLU",
    }[target]
    with pytest.raises(Misuse, match=sentence):
        export(load_run(convirt), convirt, out, target)
    assert not out.exists()


def test_a_folder_with_files_is_kept(model: Any, run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(Misuse, match="not an empty folder"):
        export(model, run, tmp_path, "smp")


def test_the_command_writes_and_says_how_to_load(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", str(run), "--to", "smp", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"wrote {out / 'model.safetensors'}" in done.output
    readme = (out / "README.md").read_text()
    assert 'smp.from_pretrained("out")' in readme
    assert "mean (0.5,)" in readme
    named = ["export", str(run), "--to", "smp", "--out", str(tmp_path / "b"), "--name", "x"]
    assert CliRunner().invoke(app, named).exit_code == 2
