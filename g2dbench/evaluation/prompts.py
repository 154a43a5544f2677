"""What is said of a finding: phrases for labels, and prompts made of them."""

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
"""Labels whose name alone is not what a report would say."""

NOT_FINDINGS = ("no finding", "normal")
"""Labels that deny all findings: "no no finding" is no sentence."""


def phrase(finding: str) -> str:
    """A label's name as a report would write it: lower case, no underscore, no abbreviation."""
    plain = finding.replace("_", " ").strip().lower()
    return PHRASES.get(plain, plain)


def promptable(findings: Sequence[str]) -> tuple[str, ...]:
    """The labels that a sentence can affirm and deny."""
    return tuple(name for name in findings if phrase(name) not in NOT_FINDINGS)


def embed_prompts(model: Embeds, templates: Sequence[str], findings: Sequence[str]) -> Tensor:
    """(T, D), one row of length 1 per finding: the mean over the templates of the prompts' rows.

    A template holds `{}` for the phrase. Each prompt is encoded by itself, so that no row depends
    on how far its neighbours had to be padded.
    """
    rows = []
    for finding in findings:
        prompts = [template.format(phrase(finding)) for template in templates]
        with torch.no_grad():
            each = torch.cat([model.embed_texts([prompt]).float() for prompt in prompts])
        rows.append(F.normalize(each.mean(dim=0), dim=0))
    return torch.stack(rows)
