"""VinBigData: the competition's table, with rescaled copies."""

from pathlib import Path

from support.data.official_layouts import official_header, place_image, write

from g2dbench.data.readers import (
    vinbigdata,
)
from g2dbench.sample import Box


def vinbigdata_root(root: Path, real_data: Path, rows: list[str], header: str = "") -> Path:
    header = official_header(real_data, "VinBigData/train.csv") + header
    write(root / "train.csv", header, *rows)
    for row in rows:
        place_image(root / "train" / f"{row.split(',')[0]}.png", real_data)
    return root


def test_vinbigdata_reads_rescaled_copies(tmp_path: Path, real_data: Path) -> None:
    rows = [
        "a,Cardiomegaly,3,R9,691.0,1375.0,1653.0,1831.0,4096,4096",
        "a,Cardiomegaly,3,R10,691.0,1375.0,1653.0,1831.0,4096,4096",
        "a,Nodule/Mass,8,R10,1,1,9,9,4096,4096",
        "a,No finding,14,R8,,,,,4096,4096",
        *(f"b,No finding,14,R{reader},,,,,100,100" for reader in (8, 9, 10)),
    ]
    first, second = vinbigdata.read(vinbigdata_root(tmp_path, real_data, rows, ",width,height"))
    assert first.boxes == (Box("Cardiomegaly", 691, 1375, 1653, 1831),)
    assert first.frame == (4096, 4096)
    assert {name for name, value in first.labels.items() if value} == {"Cardiomegaly"}
    assert second.labels["No finding"] == 1
    assert second.boxes == ()


def test_vinbigdata_official_rows_and_wrong_numbers(tmp_path: Path, real_data: Path) -> None:
    path = real_data / "official_rows/VinBigData/train.csv"
    rows = path.read_text().splitlines()[1:]
    root = vinbigdata_root(tmp_path, real_data, rows)
    ids = [row.split(",")[0] for row in rows]
    write(root / "train_meta.csv", "image_id,dim0,dim1", *(f"{name},3000,3000" for name in ids))
    found = list(vinbigdata.read(root))
    assert [item.labels["Cardiomegaly"] for item in found] == [1, 0] * 3
    root = vinbigdata_root(tmp_path / "wrong", real_data, ["a,Cardiomegaly,4,R9,1,2,3,4"])
    assert "line 2 of train.csv: the class 'Cardiomegaly'" in next(vinbigdata.read(root)).reason
