"""Sets of text prompts for findings: shipped in `prompt_sets/`, or read from a user's TOML file.

    source = "where the prompts come from"
    ensemble = "normalized"                # how several prompts of a finding are combined
    positive = ["{}", "[mild|severe] {}"]  # {} is the finding, [a|b] stands for each of a and b
    negative = ["no {}"]                   # may be left out
    [phrases]                              # wording of a label, if it is not the label's name
    effusion = "pleural effusion"
    [findings.Pneumonia]                   # prompts of one finding, instead of the general ones
    positive = ["findings suggesting pneumonia"]

A model that matches findings by name gets the label's name, or the wording in `phrases` if the file
has `asks_names = true` (KAD, MedKLIP).
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from g2dbench.errors import Misuse
from g2dbench.field_errors import sentences
from g2dbench.registry import unknown_name
from g2dbench.system.bounded_files import MAX_TOML_BYTES, parse_toml, read_text
from g2dbench.task import PROMPTS_MARK, Task, protocol_of

PHRASES = {
    "effusion": "pleural effusion",
    "pleural other": "other pleural abnormality",
    "covid-19": "COVID-19 pneumonia",
}
"""Phrases for labels whose name is not the wording of reports."""

NOT_FINDINGS = ("no finding", "normal")
"""Labels without a negative prompt: "no no finding" makes no sense."""

Ensemble = Literal["normalized", "raw", "mean_cosine", "max"]
"""How several prompts of one finding are combined:

normalized: mean of the unit-length embeddings, scaled to length 1 (CLIP).
raw: mean of the embeddings before they are scaled to length 1 (BioViL).
mean_cosine, max: mean or highest of the cosines with each prompt (MedCLIP, GLoRIA).
"""

SENSITIVITY = "prompt_sensitivity"
"""The key of `--prompt-sensitivity` in a result's details."""

_FOLDER = Path(__file__).parent / "prompt_sets"
_CHOICE = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, kw_only=True)
class FindingPrompts:
    """Prompts of one finding, as templates."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """The content of a prompt file; the module's docstring explains it.

    name: the file's name. A finding has no prompts if it is not in `findings` and there are no
    general ones.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    source: str = ""
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    ensemble: Ensemble = "normalized"
    asks_names: bool = False
    phrases: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, FindingPrompts] = field(default_factory=dict)

    def prompts(self, finding: str) -> FindingPrompts:
        """The texts to encode for one finding; empty without prompts."""
        own = {phrase(name): prompts for name, prompts in self.findings.items()}
        name = phrase(finding)
        templates = own.get(name, FindingPrompts(positive=self.positive, negative=self.negative))
        text = phrase(finding, self.phrases)
        return FindingPrompts(
            positive=_texts(templates.positive, text), negative=_texts(templates.negative, text)
        )

    def promptable(self, findings: Sequence[str]) -> tuple[str, ...]:
        """The findings that have prompts; "Normal" and "No Finding" only if the set lists them."""
        listed = {phrase(name) for name in self.findings}
        return tuple(
            name
            for name in findings
            if self.prompts(name).positive
            and (phrase(name) in listed or phrase(name) not in NOT_FINDINGS)
        )

    def query(self, finding: str) -> str:
        """What a model that matches findings by name is asked."""
        wording = {phrase(name): text for name, text in self.phrases.items()}
        return wording.get(phrase(finding), finding) if self.asks_names else finding

    @property
    def label(self) -> str:
        """`NAME-DIGEST`: the name and the beginning of a SHA-256 of the content."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def phrase(finding: str, phrases: Mapping[str, str] | None = None) -> str:
    """A label's name as reports write it: lower case, no underscore, no abbreviation."""
    name = finding.replace("_", " ").strip().lower()
    return (phrases or {}).get(name) or PHRASES.get(name, name)


def expand(template: str) -> list[str]:
    """Every text that a template with `[a|b]` choices stands for, in order, single-spaced."""
    pieces = _CHOICE.split(template)
    choices = [
        piece.split("|") if place % 2 else [piece]  # what was in brackets stands at odd places
        for place, piece in enumerate(pieces)
    ]
    return [" ".join("".join(words).split()) for words in itertools.product(*choices)]


def load_prompts(name: str) -> PromptSet:
    """A shipped prompt set; Misuse for an unknown name."""
    known = sorted(path.stem for path in _FOLDER.glob("*.toml"))
    if name not in known:
        raise Misuse(unknown_name("prompt set", name, known))
    return read_prompts(_FOLDER / f"{name}.toml")


def read_prompts(path: Path) -> PromptSet:
    """A prompt file; Misuse that names the file if it cannot be read or makes no sense."""
    try:
        raw = parse_toml(read_text(path, MAX_TOML_BYTES))
        found = TypeAdapter(PromptSet).validate_python({**raw, "name": path.stem})
    except ValidationError as error:
        invalid = sentences(error, _unknown_field)
        raise Misuse(f"the prompts {path} are not valid: {invalid}") from error
    except (OSError, ValueError) as error:
        raise Misuse(f"cannot read the prompts {path}: {error}") from error
    if wrong := _problem(found):
        raise Misuse(f"the prompts {path} are not valid: {wrong}")
    return found


def _unknown_field(path: Sequence[str]) -> str:
    if len(path) > 1:
        names = [field.name for field in dataclasses.fields(FindingPrompts)]
        return unknown_name(f"field of {'.'.join(path[:-1])}", path[-1], names)
    names = [field.name for field in dataclasses.fields(PromptSet) if field.name != "name"]
    return unknown_name("field of a prompt file", path[-1], names)


def with_prompts(task: Task, protocol: str, path: Path | None) -> tuple[str, Any]:
    """A protocol's name and settings, with the prompts of a file if one is given.

    The name is then `PROTOCOL@LABEL`, so that results of other prompts stand in another column.
    Misuse if the task has no prompts.
    """
    name, settings = protocol_of(task, protocol)
    if path is None:
        return name, settings
    if not isinstance(getattr(settings, "prompts", None), PromptSet):
        raise Misuse(
            f"--prompts is for tasks that ask with text prompts; {task.CARD.name} does not"
        )
    prompts = read_prompts(path)
    return f"{name}{PROMPTS_MARK}{prompts.label}", dataclasses.replace(settings, prompts=prompts)


def _texts(templates: Sequence[str], text: str) -> tuple[str, ...]:
    return tuple(
        prompt.replace("{}", text) for template in templates for prompt in expand(template)
    )


def _problem(found: PromptSet) -> str | None:
    """What is wrong with a prompt set, in words."""
    lists = [("positive", found.positive), ("negative", found.negative)]
    for name, own in found.findings.items():
        if not own.positive:
            return f"the finding {name!r} has no positive prompt"
        lists += [(f"findings.{name}", (*own.positive, *own.negative))]
    if not found.positive and not found.findings:
        return "there is no positive prompt"
    for name, templates in lists:
        for template in templates:
            if template.count("[") != template.count("]") or not all(expand(template)):
                return f"{name}: {template!r} has an open bracket, or is empty"
            if name in ("positive", "negative") and "{}" not in template:
                return f"{name}: {template!r} does not contain {{}}, the place of the finding"
    return None
