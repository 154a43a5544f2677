"""SIIM-ACR: run-length masks in the original layout and in two copies."""

from pathlib import Path

import numpy as np
from PIL import Image
from support.data.official_layouts import official_header, place_image, save_image, siim_root, write

from g2dbench.data.annotations.masks import RunMasks
from g2dbench.data.annotations.rle import to_runs as encode
from g2dbench.data.readers import (
    siim,
)
from g2dbench.data.tables.csv import read_table
from g2dbench.data.tables.records import Missing, Rejected
from g2dbench.sample import Record


def test_siim_is_the_same_in_all_three_layouts(tmp_path: Path, real_data: Path) -> None:
    mask = np.zeros((1024, 1024), bool)
    mask[100:300, 50:90] = True
    runs = encode(mask)[:-1]
    drawn = {"1.2.3": mask, "1.2.4": np.zeros_like(mask)}
    for name, part in drawn.items():
        place_image(tmp_path / f"dicom/dicom-images-train/s/t/{name}.dcm", real_data)
        number = name[-1]
        save_image(
            tmp_path / f"shelf/png_images/{number}_train_{int(part.any())}_.png", (1024, 1024)
        )
        save_image(tmp_path / f"flat/train/{name}.png", (1024, 1024))
        for place in (f"shelf/png_masks/{number}_train_{int(part.any())}_.png",
                      f"flat/masks/{name}.png"):  # fmt: skip
            (tmp_path / place).parent.mkdir(exist_ok=True)
            Image.fromarray(part.astype(np.uint8) * 255).save(tmp_path / place)
    code = " ".join(map(str, runs))
    header = official_header(real_data, "SIIM/train-rle.csv")
    write(tmp_path / "dicom/train-rle.csv", header, f"1.2.3, {code}", "1.2.4, -1")
    header = official_header(real_data, "SIIM-vbookshelf/stage_1_train_images.csv")
    write(tmp_path / "shelf/stage_1_train_images.csv", header, "3_train_1_.png,1.2.3,1",
          "4_train_0_.png,1.2.4,0")  # fmt: skip
    for layout in ("dicom", "shelf", "flat"):
        positive, negative = siim.read(tmp_path / layout)
        assert (positive.id, positive.labels) == ("1.2.3", {"Pneumothorax": 1}), layout
        np.testing.assert_array_equal(positive.masks["Pneumothorax"], mask)
        assert (negative.id, negative.labels) == ("1.2.4", {"Pneumothorax": 0}), layout
        assert len(negative.masks) == 0


def test_siim_copies_report_contradictions_and_missing_files(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save_image(tmp_path / f"png_images/{number}_test_0_.png")
        save_image(tmp_path / f"png_masks/{number}_test_0_.png", value=0)
    write(tmp_path / "stage_1_test_images.csv", "new_filename,ImageId,has_pneumo",
          "1_test_0_.png,a,0", "2_test_0_.png,b,1", "3_test_0_.png,c,x", "9_test_0_.png,d,0",
          )  # fmt: skip
    found = list(siim.read(tmp_path))
    assert [type(item) for item in found] == [Record, Rejected, Rejected, Missing]
    assert "contradicts the name" in found[1].reason
    flat = tmp_path / "flat"
    save_image(flat / "train/a.png")
    save_image(flat / "masks/b.png")
    (lonely,) = siim.read(flat)
    assert lonely == Missing("a, its mask", flat / "train/a.png")


def test_siim_header_and_negatives_with_spaces_are_read(tmp_path: Path, real_data: Path) -> None:
    root = siim_root(tmp_path, real_data, "a,-1\nb, -1\nc, 1024 2 1022 2\n")
    found = list(siim.read(root))
    assert [item.labels["Pneumothorax"] for item in found] == [0, 0, 1]
    assert [len(item.masks) for item in found] == [0, 0, 1]
    assert found[2].sex == "M"


def test_siim_gaps_count_from_the_last_run_and_go_down_the_columns(
    tmp_path: Path, real_data: Path
) -> None:
    root = siim_root(tmp_path, real_data, "a,3 2 1022 1\na,0 1\n")
    (found,) = siim.read(root)
    rows, columns = np.nonzero(found.masks["Pneumothorax"])
    # 3 pixels down the first column, two set; 1022 on, one set: 3 + 2 + 1022 = 1027 = (3, 1).
    assert sorted(zip(columns.tolist(), rows.tolist(), strict=True)) == [
        (0, 0), (0, 3), (0, 4), (1, 3),
    ]  # fmt: skip


def test_siim_official_rows_agree_with_the_published_decoder(real_data: Path) -> None:
    table = read_table(real_data / "official_rows/SIIM/train-rle.csv", ("ImageId", "EncodedPixels"))
    codes = [code for code in table["EncodedPixels"] if code != "-1"]
    assert codes
    for code in codes:
        flat, at = np.zeros(1024 * 1024, bool), 0
        numbers = [int(part) for part in code.split()]
        for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
            at += gap
            flat[at : at + length] = True
            at += length
        mask = RunMasks({"x": [siim.parse_runs(code, "here")]}, siim.FRAME)["x"]
        np.testing.assert_array_equal(mask, flat.reshape(1024, 1024).T)


def test_siim_broken_codes_are_rejected_with_their_line(tmp_path: Path, real_data: Path) -> None:
    rows = "a,1 2 3\nb,\nc,x y\nd,1048576 1\ne,5 5\ne,-1\nz,-1\n"
    found = list(siim.read(siim_root(tmp_path, real_data, rows)))
    assert [type(item) for item in found] == [Rejected] * 5 + [Missing]
    assert "line 2 of train-rle.csv" in found[0].reason
    assert "1024 x 1024" in found[3].reason
