"""The contact sheet: maps cover their images, text fits, and brightness rises with the value."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from torch import Tensor

from g2dbench.errors import Misuse
from g2dbench.figures import contact_sheet, figure
from g2dbench.figures.contact_sheet import PANEL_SIDE, CaptionedImage, SheetRow
from g2dbench.model import Grounding, Model
from g2dbench.preprocess import Preprocess

LEFT, TOP = 14 + PANEL_SIDE + 8, 14 + 3 * 19 + 2 * 8 + 19  # of the first map


def drawn(row: SheetRow, preprocess: Preprocess) -> np.ndarray:
    return np.asarray(contact_sheet.draw_sheet("a title", [row], preprocess))


def spot(side: int, y: int, x: int) -> np.ndarray:
    values = np.zeros((side, side), np.float32)
    values[y, x] = 1
    return values


def test_brightness_rises_monotonically() -> None:
    colors = contact_sheet.to_colors(np.linspace(0, 1, 256)).astype(float)
    luma = colors @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()
    assert (luma[0], luma[-1]) == (pytest.approx(0.456), pytest.approx(243.7, abs=1))


@pytest.mark.parametrize(("height", "width"), [(100, 200), (200, 100), (64, 64), (12, 50)])
def test_a_map_covers_its_image_at_the_images_aspect_ratio(height: int, width: int) -> None:
    image = np.full((height, width), 200, np.uint8)
    picture = drawn(SheetRow("s1", image, {"map": spot(4, 1, 2)}), Preprocess(size=64))
    tall, wide = (max(1, round(side * PANEL_SIDE / max(height, width))) for side in image.shape)
    panel = picture[TOP : TOP + tall, LEFT : LEFT + wide].astype(int)
    bright = (panel.sum(-1) > 500).nonzero()
    assert (picture[TOP : TOP + tall, 14 : 14 + wide] == 200).all()
    assert (picture[TOP : TOP + tall, LEFT + wide : LEFT + PANEL_SIDE] == 255).all()
    assert bright[0].min() == pytest.approx(tall / 4, abs=1)
    assert bright[0].max() == pytest.approx(tall / 2 - 1, abs=1)
    assert bright[1].min() == pytest.approx(wide / 2, abs=1)
    assert bright[1].max() == pytest.approx(wide * 3 / 4 - 1, abs=1)


def test_what_a_crop_leaves_out_is_hatched() -> None:
    image = np.zeros((100, 200), np.uint8)
    crop = Preprocess(size=64, fit="crop")
    picture = drawn(SheetRow("s1", image, {"map": np.ones((8, 8), np.float32)}), crop)
    panel = picture[TOP : TOP + PANEL_SIDE // 2, LEFT : LEFT + PANEL_SIDE]
    seen = (panel == contact_sheet.to_colors(np.array(1.0))).all(-1)
    assert seen[:, PANEL_SIDE // 4 + 1 : 3 * PANEL_SIDE // 4 - 1].all()
    unseen = panel[:, : PANEL_SIDE // 4 - 1]
    assert {tuple(colour) for colour in unseen.reshape(-1, 3)} == {(170,) * 3, (205,) * 3}


def test_long_text_fits_its_width_and_keeps_both_ends() -> None:
    font = ImageFont.load_default(12)
    name = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"
    cut = contact_sheet.shortened(name, 100, font)
    assert font.getlength(cut) <= 100
    start, end = cut.split("…")
    assert name.startswith(start)
    assert name.endswith(end)
    assert min(len(start), len(end)) >= 5
    assert contact_sheet.shortened(name, 1000, font) == name
    assert contact_sheet.shortened(name, 0, font) == ""
    image = np.zeros((10, 10), np.uint8)
    row = SheetRow(name * 9, image, {name: np.zeros((2, 2), np.float32)})
    picture = np.asarray(contact_sheet.draw_sheet(name * 9, [row], Preprocess(size=64)))
    assert (picture[:, -14:] == 255).all()


class Spots(Model):
    """A model that shows where its input is brightest, and locates texts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.preprocess = Preprocess(size=32)
        self.identity = SimpleNamespace(label="spots")  # type: ignore[assignment]
        self.grounding = Grounding()

    def panels(self, images: Tensor, reports: Any) -> dict[str, Tensor]:
        return {"bright": images.mean(1)}

    def locate(self, images: Tensor, texts: Any) -> Tensor:
        pooled = torch.nn.functional.avg_pool2d(images[:, :1], 8) * self.scale
        return torch.cat([pooled * (number + 1) for number in range(len(texts))], 1)


class Blind(Model):
    def __init__(self) -> None:
        super().__init__()
        self.identity = SimpleNamespace(label="blind")  # type: ignore[assignment]


class Finds(Blind):
    grounding = Grounding()
    preprocess = Preprocess(size=32)

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    locate = Spots.locate


def some(count: int) -> list[CaptionedImage]:
    rng = np.random.default_rng(0)
    return [
        CaptionedImage(f"s{i}", rng.integers(0, 256, (40, 60), dtype=np.uint8))
        for i in range(count)
    ]


def test_rows_do_not_depend_on_their_number() -> None:
    many = figure.make_rows(Spots(), some(20), ())
    for row, subject in zip(many, some(20), strict=True):
        (alone,) = figure.make_rows(Spots(), [subject], ())
        assert row.caption == subject.caption
        np.testing.assert_array_equal(row.maps["bright"], alone.maps["bright"])


def test_maps_of_a_text_share_the_scale_in_the_heading() -> None:
    found = figure.make_rows(Spots(), some(3), ["effusion", "heart"])
    names = list(found[0].maps)
    assert [name.split("\n")[0] for name in names] == ["bright", "effusion", "heart"]
    values = np.stack([row.maps[names[1]] for row in found])
    assert (values.min(), values.max()) == (0, 1)
    low, high = (float(word) for word in names[1].split("\n")[1].split(" to "))
    images = Preprocess(size=32).batch([each.image for each in some(3)])
    wanted = Spots().locate(images, ["effusion"]).detach()
    assert (low, high) == (
        pytest.approx(float(wanted.min()), abs=0.006), pytest.approx(float(wanted.max()), abs=0.006)
    )  # fmt: skip
    (blank,) = figure.make_rows(
        Spots(), [CaptionedImage("s", np.zeros((40, 40), np.uint8))], ["heart"]
    )
    assert all(np.isfinite(map_).all() for map_ in blank.maps.values())


def test_a_model_without_maps_is_refused() -> None:
    with pytest.raises(Misuse, match=r"blind has no attention maps or masks.*does not locate"):
        figure.make_rows(Blind(), some(1), ())
    with pytest.raises(Misuse, match=r"blind has no attention.*--text TEXT draws"):
        figure.make_rows(Finds(), some(1), ())
    with pytest.raises(Misuse, match="does not locate texts"):
        figure.make_rows(Blind(), some(1), ["heart"])
    (row,) = figure.make_rows(Finds(), some(1), ["heart"])
    assert len(row.maps) == 1
    for count in (0, contact_sheet.MAX_ROWS + 1):
        with pytest.raises(Misuse, match=f"1 to 64 images, not {count}"):
            figure.make_rows(Spots(), some(count), ())


def test_a_picture_is_written_atomically(tmp_path: Path) -> None:
    figure.check_format(Path("a.JPG"))
    with pytest.raises(Misuse, match=r"no picture format '.pgn': did you mean '.png'"):
        figure.check_format(Path("a.pgn"))
    picture = contact_sheet.draw_sheet(
        "t", figure.make_rows(Spots(), some(1), ()), Preprocess(size=32)
    )
    figure.save(picture, tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read), np.asarray(picture))
