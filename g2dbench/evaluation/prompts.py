"""Text prompts for findings: phrases for label names, and their embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from g2dbench.model import Embeds

PHRASES = {
    "effusion": "pleural effusion",
    "pleural other": "other pleural abnormality",
    "covid-19": "COVID-19 pneumonia",
}
"""Phrases for labels whose name is not the wording of reports."""

NOT_FINDINGS = ("no finding", "normal")
"""Labels without a negative prompt: "no no finding" makes no sense."""


def phrase(finding: str) -> str:
    """A label's name as reports write it: lower case, no underscore, no abbreviation."""
    name = finding.replace("_", " ").strip().lower()
    return PHRASES.get(name, name)


def promptable(findings: Sequence[str]) -> tuple[str, ...]:
    """The labels that have a positive and a negative prompt."""
    return tuple(name for name in findings if phrase(name) not in NOT_FINDINGS)


def embed_prompts(model: Embeds, templates: Sequence[str], findings: Sequence[str]) -> Tensor:
    """(T, D), one unit-length row per finding: the mean embedding over the templates.

    A template contains `{}` for the phrase. Each prompt is encoded alone, so that no embedding
    depends on padding to the length of another prompt.
    """
    rows = []
    for finding in findings:
        prompts = [template.format(phrase(finding)) for template in templates]
        with torch.no_grad():
            each = torch.cat([model.embed_texts([prompt]).float() for prompt in prompts])
        rows.append(F.normalize(each.mean(dim=0), dim=0))
    return torch.stack(rows)
