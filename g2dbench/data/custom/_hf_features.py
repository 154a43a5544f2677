"""Which feature of a Hugging Face data set says what, found by type or named by option."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from g2dbench.data.custom._table import ALIASES
from g2dbench.data.tables.columns import find_column, is_missing
from g2dbench.data.tables.csv import number
from g2dbench.errors import BadData, Misuse
from g2dbench.sample import Box

TEXTS = ("text", "patient", "study", "view", "sex", "age")
ROLES = ("image", "label", "objects", *TEXTS)
TEXT_ALIASES = {**ALIASES, "text": (*ALIASES["text"], "txt")}

SIDES = ("height", "width")
"""Features that say, as COCO's do, how large the picture was in which the boxes were drawn."""
OWN_KEYS = ("json", "__key__", "__url__")
"""Features that `datasets` makes of a WebDataset's sample."""

UNNAMED = -1
"""What `datasets` writes for a class that is not known."""
PARTIAL = "an object has no class or no bbox, so that the image's boxes are not known"

CATEGORY, BBOX = ("category", "categories", "label", "labels"), "bbox"


@dataclass(frozen=True)
class Roles:
    """Features by what they say. findings: names of the labels and of the boxes' categories."""

    image: str
    texts: Mapping[str, str]
    label: str | None
    objects: str | None
    findings: tuple[str, ...]
    _label_names: tuple[str, ...]
    _category: str | None
    _category_names: tuple[str, ...]
    _sides: tuple[str, ...]

    @classmethod
    def of(cls, features: Mapping[str, Any], options: Mapping[str, str]) -> "Roles":
        """Find the roles; Misuse if an option names no feature or the image is not certain."""
        for role, name in options.items():
            if role in ROLES and name not in features:
                raise Misuse(f"--option {role}={name}: the features are {', '.join(features)}")
        image = options.get("image") or _only_image(features)
        label = options.get("label") or _first(features, lambda f: bool(_class_names(f)))
        objects = options.get("objects") or _first(features, lambda f: _category_of(f) is not None)
        category = None if objects is None else _category_of(features[objects])
        names = () if label is None else _class_names(features[label])
        kinds = () if category is None else _class_names(_inner(features[str(objects)])[category])
        if label is not None and not names:
            raise Misuse(f"--option label={label}: the feature is no ClassLabel nor a list of it")
        if objects is not None and not kinds:
            raise Misuse(f"--option objects={objects}: it has no bbox with a ClassLabel category")
        findings = tuple(dict.fromkeys((*names, *kinds)))
        texts = _texts(features, options)
        sides = SIDES if all(name in features for name in SIDES) else ()
        return cls(image, texts, label, objects, findings, names, category, kinds, sides)

    def told(self) -> str:
        """Which features are used for what, for people."""
        found = {"image": self.image, **self.texts, "label": self.label, "objects": self.objects}
        return ", ".join(f"{role}={name}" for role, name in found.items() if name is not None)

    def unused(self, features: Mapping[str, Any]) -> list[str]:
        """The features that say nothing here; keys of WebDataset's own are not among them."""
        used = {self.image, self.label, self.objects, *self.texts.values(), *self._sides}
        return [name for name in features if name not in used and name not in OWN_KEYS]

    def frame_of(self, row: Mapping[str, Any]) -> tuple[int, int] | None:
        """(height, width) of the picture in which a row's boxes were drawn, where it says so."""
        if self.objects is None or not self._sides:
            return None
        height, width = (row[name] for name in self._sides)
        if not all(isinstance(side, int) and side > 0 for side in (height, width)):
            raise BadData(f"its picture claims {height!r} x {width!r} pixels")
        return height, width

    def offers(self) -> tuple[str, ...]:
        """What a card says of these."""
        has = {
            "reports": "text" in self.texts,
            "labels": self.label is not None,
            "boxes": self.objects is not None,
        }
        return tuple(kind for kind, offered in has.items() if offered)

    def text_of(self, row: Mapping[str, Any], role: str) -> str | None:
        """A row's text in one role, None where there is none."""
        value = row[self.texts[role]] if role in self.texts else None
        text = "" if value is None else str(value).strip()
        return None if is_missing(text) else text

    def labels_of(self, row: Mapping[str, Any]) -> dict[str, int] | None:
        """1 for the classes that a row names, 0 for the others; None where it names no class."""
        if self.label is None:
            return None
        value = row[self.label]
        codes = value if isinstance(value, list) else [value]
        if value is None or any(code is None or code < 0 for code in codes):
            return None
        return {name: int(place in codes) for place, name in enumerate(self._label_names)}

    def boxes_of(self, row: Mapping[str, Any]) -> tuple[tuple[Box, ...] | None, tuple[str, ...]]:
        """A row's boxes, None where they are not all known, and a note where it has others.

        BadData if one is broken.
        """
        found = row[self.objects] if self.objects is not None else None
        if found is None:
            return None, ()
        category = str(self._category)
        if isinstance(found, dict):
            objects = list(zip(found[category] or [], found[BBOX] or [], strict=False))
        else:
            objects = [(item[category], item[BBOX]) for item in found]
        if any(code in (None, UNNAMED) or not corners for code, corners in objects):
            return None, (PARTIAL,)
        return tuple(self._box(code, corners) for code, corners in objects), ()

    def _box(self, code: Any, corners: Any) -> Box:
        if not isinstance(code, int) or not 0 <= code < len(self._category_names):
            raise BadData(f"an object's category is {code!r}")
        if not isinstance(corners, list) or len(corners) != 4:
            raise BadData(f"an object's bbox is {corners!r}, not four numbers")
        x, y, width, height = (number(str(value), "a number of a bbox") for value in corners)
        return Box(self._category_names[code], x, y, x + width, y + height)


def _only_image(features: Mapping[str, Any]) -> str:
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if len(images) != 1:
        raise Misuse(
            f"{len(images)} features are images ({', '.join(images) or 'none'}) among "
            f"{', '.join(features)}: say --option image=FEATURE"
        )
    return images[0]


def _texts(features: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in features if _is_value(features[name])]
    found = {}
    for role in TEXTS:
        name = options.get(role) or find_column(names, TEXT_ALIASES[role])
        if name is not None:
            found[role] = name
    return found


def _first(features: Mapping[str, Any], fits: Any) -> str | None:
    return next((name for name, feature in features.items() if fits(feature)), None)


def _is_value(feature: Any) -> bool:
    return type(feature).__name__ in ("Value", "ClassLabel")


def _inner(feature: Any) -> Any:
    """What a list is of; anything else as it is."""
    inner = getattr(feature, "feature", feature)
    return inner[0] if isinstance(inner, list) else inner


def _class_names(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel or a list of it."""
    return tuple(getattr(_inner(feature), "names", None) or ())


def _category_of(feature: Any) -> str | None:
    """The name of an object's category, where a feature is a list of boxes with one."""
    inner = _inner(feature)
    if not isinstance(inner, dict) or BBOX not in inner:
        return None
    return next((name for name in CATEGORY if name in inner), None)
