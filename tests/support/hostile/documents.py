"""COCO's JSON and Open-i's XML: too deep, too long, inconsistent, or with external references."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.hostile.kit import BAD, BROKEN, Case, png
from support.hostile.roots import annotations, xml

LOOSE = json.JSONEncoder(allow_nan=True).encode


def text(name: str, content: str | bytes, harmless: tuple[str, ...] = ()) -> None:
    """A case with this text as its COCO file."""

    def place(root: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (root / "boxes.json").write_bytes(data)

    BROKEN[f"COCO: {name}"] = Case("coco", place, harmless)


def edit(
    name: str, change: Callable[[dict[str, Any]], object], harmless: tuple[str, ...] = ()
) -> None:
    """A case that changes one value of a valid COCO file."""
    content = annotations()
    change(content)
    text(name, LOOSE(content), harmless)


GOOD_JSON = json.dumps(annotations())
text("lists 100,000 deep", "[" * 100_000 + "]" * 100_000)
text("objects 100,000 deep", '{"images":' * 100_000 + "1" + "}" * 100_000)
text("an integer of a million digits", GOOD_JSON.replace("40", "9" * 1_000_000, 1))
text("empty", "")
text("null", "null")
text("a number", "1")
text("cut", GOOD_JSON[: len(GOOD_JSON) // 2])
text("in UTF-16", GOOD_JSON.encode("utf-16"))
text("bytes that are no text", b"\xff\xfe\xfd" * 100)
text("an image", png())
text("a NUL at its end", GOOD_JSON + "\0")
text("a mark of UTF-8 before it", "\ufeff" + GOOD_JSON, (BAD,))
text("keys twice", GOOD_JSON[:-1] + ',"images":[]}')
for part in ("images", "annotations", "categories"):
    edit(f"no {part}", lambda content, part=part: content.pop(part))
    for value in (None, 1, "x", {"0": {}}, [1], [[]]):
        edit(
            f"{part} are {value!r}",
            lambda content, part=part, value=value: content.update({part: value}),
        )


def item(part: str, key: str, value: object, harmless: tuple[str, ...] = ()) -> None:
    """A case with another value in the last item of a section."""
    shown = str(value) if len(str(value)) < 30 else f"{str(value)[:20]}..."
    edit(
        f"{part}: {key} is {type(value).__name__} {shown}",
        lambda content: content[part][-1].update({key: value}),
        harmless,
    )


NAN, INF = float("nan"), float("inf")
for value in (None, True, 1.5, NAN, [], {}, 0):
    item("images", "id", value)
for value in (None, -1, 0, "tall", NAN, INF, [40]):
    item("images", "height", value)
for value in ("../../elsewhere/x.png", "/etc/passwd", "", None, 7, "x" * 5000, "a\0b.png"):
    item("images", "file_name", value)
for value in (None, "1", NAN, [1]):
    item("annotations", "image_id", value)
item("annotations", "image_id", 5, (BAD,))
for value in (None, "7", 8, NAN, {}):
    item("annotations", "category_id", value)
for value in (
    "0 0 5 5", 5, [1, 2, 3], [1, 2, 3, NAN], [1, 2, INF, 4], [1, 2, 10**400, 4],
    [1, 2, "x", 4], [5, 5, -3, 4], [5, 5, 0, 4], [100, 100, 5, 5], [[1, 2, 3, 4]], {"x": 1},
):  # fmt: skip
    item("annotations", "bbox", value)
for value in (None, []):
    item("annotations", "bbox", value, (BAD,))
for value in (
    "wW", 5, [5], [[1, 2]], [[1, 2, 3, 4, 5]], [[1, 2, NAN, 4, 5, 6]], [["x"] * 6], [{}],
    {"counts": "abc", "size": [40, 40]}, {"counts": [10**30], "size": [40, 40]},
    {"counts": [-5, 5], "size": [40, 40]}, {"counts": [5, 5], "size": [44, 40]},
    {"counts": [1000, 1000], "size": [40, 40]}, {"counts": [NAN], "size": [40, 40]},
    {"size": [40, 40]}, {"counts": [5, 5]}, [[1.0, 2.0] * 50_000],
):  # fmt: skip
    item("annotations", "segmentation", value, (BAD,))
edit(
    "two categories of one id",
    lambda content: content["categories"].append({"id": 7, "name": "x"}),
)
edit(
    "the image listed twice",
    lambda content: content["images"].append({**content["images"][1], "id": 9}),
    (BAD,),
)


def report(name: str, content: str | bytes, harmless: tuple[str, ...] = ()) -> None:
    """A case with this text as its second XML report."""

    def place(root: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (root / "ecgen-radiology/2.xml").write_bytes(data)

    BROKEN[f"XML: {name}"] = Case("open_i_nlm", place, harmless)


LAUGHS = "".join(
    f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' if level else '<!ENTITY l0 "lol">'
    for level in range(10)
)
report("a billion laughs", xml(2, f"<!DOCTYPE eCitation [{LAUGHS}]>", "&l9;"))
report(
    "an entity of a system file",
    xml(2, '<!DOCTYPE eCitation [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "&x;"),
)
report(
    "an entity of the web",
    xml(2, '<!DOCTYPE eCitation [<!ENTITY x SYSTEM "http://localhost:9/x">]>', "&x;"),
)
report(
    "parameter entities",
    xml(2, '<!DOCTYPE eCitation [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>'),
)
report("a document type elsewhere", xml(2, '<!DOCTYPE eCitation SYSTEM "file:///dev/zero">'))
report(
    "laughs in UTF-16",
    xml(2, f"<!DOCTYPE eCitation [{LAUGHS}]>", "&l9;").replace("utf-8", "utf-16").encode("utf-16"),
)
report("an unknown entity", xml(2, text="&lungs;"))
report("elements 100,000 deep", xml(2, text="<a>" * 100_000 + "</a>" * 100_000), (BAD,))
report("2 MB", xml(2, text="x" * 2_000_000))
report("cut", xml(2)[:100])
report("empty", "")
report("a web page", "<!DOCTYPE html><html></html>")
report("an encoding that is none", xml(2).replace("utf-8", "martian"))
report("Latin-1 bytes in UTF-8", xml(2, text="gr\xf6\xdfer").encode("latin-1"))
report("a NUL", xml(2, text="a\0b"))
report("no uId", xml(2).replace('<uId id="CXR2"/>', ""))
report("an empty uId", xml(2).replace('<uId id="CXR2"/>', '<uId id=""/>'))
report("the number of another report", xml(1))
for number, name in enumerate(("../../etc/passwd", "/etc/passwd", "CXR2_../../x", "", "CXR9_IM-1")):
    report(f"an image that escapes, {number}", xml(2).replace("CXR2_IM-0001", name))
INCLUSION = (
    '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/passwd" parse="text"/>'
)
report("an inclusion", xml(2, text=INCLUSION), (BAD,))
