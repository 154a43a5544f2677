"""The roles of the features of a Hugging Face data set, found by type or given by options."""

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

SIZE_FEATURES = ("height", "width")
"""Features with the size of the picture to which the boxes refer, as in COCO."""
WEBDATASET_KEYS = ("json", "__key__", "__url__")
"""Features that `datasets` creates for a sample of a WebDataset."""

UNKNOWN_CLASS = -1
"""The code of `datasets` for an unknown class."""
PARTIAL_BOXES = "an object has no class or no bbox, so that the image's boxes are not known"

CATEGORY_NAMES, BBOX = ("category", "categories", "label", "labels"), "bbox"


@dataclass(frozen=True)
class FeatureRoles:
    """Features by role. findings: names of the labels and of the categories of boxes."""

    image: str
    texts: Mapping[str, str]
    label: str | None
    objects: str | None
    findings: tuple[str, ...]
    _label_names: tuple[str, ...]
    _category: str | None
    _category_names: tuple[str, ...]
    _size_features: tuple[str, ...]

    @classmethod
    def of(cls, features: Mapping[str, Any], options: Mapping[str, str]) -> "FeatureRoles":
        """Find the roles; Misuse if an option names an unknown feature or the image is unclear."""
        for role, name in options.items():
            if role in ROLES and name not in features:
                raise Misuse(f"--option {role}={name}: the features are {', '.join(features)}")
        image = options.get("image") or _only_image(features)
        label = options.get("label") or _first_feature(features, lambda f: bool(_class_names(f)))
        objects = options.get("objects") or _first_feature(
            features, lambda f: _category_of(f) is not None
        )
        category = None if objects is None else _category_of(features[objects])
        names = () if label is None else _class_names(features[label])
        category_names = (
            () if category is None else _class_names(_element_of(features[str(objects)])[category])
        )
        if label is not None and not names:
            raise Misuse(f"--option label={label}: the feature is no ClassLabel nor a list of it")
        if objects is not None and not category_names:
            raise Misuse(f"--option objects={objects}: it has no bbox with a ClassLabel category")
        findings = tuple(dict.fromkeys((*names, *category_names)))
        texts = _text_features(features, options)
        sides = SIZE_FEATURES if all(name in features for name in SIZE_FEATURES) else ()
        return cls(image, texts, label, objects, findings, names, category, category_names, sides)

    def describe(self) -> str:
        """Describe which feature is used for what, for the summary."""
        found = {"image": self.image, **self.texts, "label": self.label, "objects": self.objects}
        return ", ".join(f"{role}={name}" for role, name in found.items() if name is not None)

    def unused(self, features: Mapping[str, Any]) -> list[str]:
        """Return the features without a role, except the keys that WebDataset itself adds."""
        used = {self.image, self.label, self.objects, *self.texts.values(), *self._size_features}
        return [name for name in features if name not in used and name not in WEBDATASET_KEYS]

    def frame_of(self, row: Mapping[str, Any]) -> tuple[int, int] | None:
        """Return (height, width) of the picture to which a row's boxes refer; None if not given."""
        if self.objects is None or not self._size_features:
            return None
        height, width = (row[name] for name in self._size_features)
        if not all(isinstance(side, int) and side > 0 for side in (height, width)):
            raise BadData(f"its picture claims {height!r} x {width!r} pixels")
        return height, width

    def offers(self) -> tuple[str, ...]:
        """Return the kinds of annotation that the features offer, as in a card."""
        available = {
            "reports": "text" in self.texts,
            "labels": self.label is not None,
            "boxes": self.objects is not None,
        }
        return tuple(kind for kind, offered in available.items() if offered)

    def text_of(self, row: Mapping[str, Any], role: str) -> str | None:
        """Return a row's text in one role; None if there is none."""
        value = row[self.texts[role]] if role in self.texts else None
        text = "" if value is None else str(value).strip()
        return None if is_missing(text) else text

    def labels_of(self, row: Mapping[str, Any]) -> dict[str, int] | None:
        """Return 1 for the classes of a row and 0 for all others; None if the row has no class."""
        if self.label is None:
            return None
        value = row[self.label]
        codes = value if isinstance(value, list) else [value]
        if value is None or any(code is None or code < 0 for code in codes):
            return None
        return {name: int(place in codes) for place, name in enumerate(self._label_names)}

    def boxes_of(self, row: Mapping[str, Any]) -> tuple[tuple[Box, ...] | None, tuple[str, ...]]:
        """Return the boxes of a row, None if some are unknown, and notes that say so.

        BadData if a box is malformed.
        """
        found = row[self.objects] if self.objects is not None else None
        if found is None:
            return None, ()
        category = str(self._category)
        if isinstance(found, dict):
            objects = list(zip(found[category] or [], found[BBOX] or [], strict=False))
        else:
            objects = [(item[category], item[BBOX]) for item in found]
        if any(code in (None, UNKNOWN_CLASS) or not corners for code, corners in objects):
            return None, (PARTIAL_BOXES,)
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


def _text_features(features: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in features if _is_value(features[name])]
    found = {}
    for role in TEXTS:
        name = options.get(role) or find_column(names, TEXT_ALIASES[role])
        if name is not None:
            found[role] = name
    return found


def _first_feature(features: Mapping[str, Any], fits: Any) -> str | None:
    return next((name for name, feature in features.items() if fits(feature)), None)


def _is_value(feature: Any) -> bool:
    return type(feature).__name__ in ("Value", "ClassLabel")


def _element_of(feature: Any) -> Any:
    """Return the type of the elements of a list feature; any other feature unchanged."""
    element = getattr(feature, "feature", feature)
    return element[0] if isinstance(element, list) else element


def _class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of a ClassLabel or of a list of ClassLabel; empty for other features."""
    return tuple(getattr(_element_of(feature), "names", None) or ())


def _category_of(feature: Any) -> str | None:
    """Return the name of the category in a list of boxes; None if the feature is not one."""
    element = _element_of(feature)
    if not isinstance(element, dict) or BBOX not in element:
        return None
    return next((name for name in CATEGORY_NAMES if name in element), None)
