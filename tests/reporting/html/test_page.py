"""The page as text: strangers' texts are data, and the policy allows our script alone."""

import base64
import hashlib
import json
import math
import re

import pytest
from support.reporting.results import result, stored

from g2dbench.registry import Registry
from g2dbench.reporting.html.page import render, to_json
from g2dbench.reporting.html.report import build_report

HOSTILE = (
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\u2028'\"&<!--",
    "{{ 7 * 7 }}", "]]>", "\x00\x1b[31m",
)  # fmt: skip


def page_of(*texts: str) -> str:
    results = [
        result(0.5, model=text, data=text, seed=at, source=text, config={text: text})
        for at, text in enumerate(texts)
    ]
    failed = result(model="x", status="failed", reason=texts[0], scores={})
    page = build_report(stored(*results, failed), Registry(), problems=texts)
    return render(page)


def blocks(html: str) -> dict[str, object]:
    found = re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', html)
    return {name: json.loads(text) for name, text in found}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_stays_text(text: str) -> None:
    html = page_of(text)
    assert html.count("<script") == html.count("</script>") == len(blocks(html)) + 1
    assert "<img" not in html
    assert "49" not in re.findall(r"<li>([^<]*)</li>", html)
    data = blocks(html)["data"]
    assert isinstance(data, dict)
    assert text in data["models"]


@pytest.mark.parametrize("value", [*HOSTILE, {"a": ["<b>"]}, [1, None, 0.5, "é"]])
def test_json_has_no_character_of_html_and_reads_back(value: object) -> None:
    text = to_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


def test_the_policy_allows_exactly_our_script_and_style() -> None:
    html = page_of("a")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    policy = policy.replace("&#39;", "'")
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_the_file_refers_to_nothing_outside_itself() -> None:
    html = page_of("a")
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', html)
    assert not [url for url in re.findall(r"https?://[^\s\"']+", html) if "w3.org" not in url]


def test_numbers_that_json_lacks_become_null() -> None:
    page = build_report(
        stored(result(math.nan), result(0.5, model="x", seconds=math.inf)), Registry()
    )
    assert "NaN" not in (html := render(page))
    assert "Infinity" not in re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
