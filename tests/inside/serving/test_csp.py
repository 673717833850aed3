import json
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from serving.csp import report

CDN = "https://cdn.example/x.js"


def send(directive: str, blocked: str) -> HttpResponse:
    """Report as a browser does that `directive` refused `blocked`."""
    found = {
        "blocked-uri": blocked,
        "document-uri": "http://localhost/page/",
        "effective-directive": directive,
    }
    body = json.dumps({"csp-report": found})
    return report(RequestFactory().post("/", body, "application/csp-report"))


@pytest.mark.parametrize(
    ("directive", "blocked", "advice"),
    [
        ("script-src-elem", CDN, 'add "https://cdn.example" to "script-src" of SECURE_CSP'),
        ("style-src-elem", "inline", 'give the element nonce="{% raw %}{{ csp_nonce }}{% endraw %}"'),
        ("style-src-attr", "inline", "move the attribute to a file"),
        ("script-src-attr", "inline", "move the attribute to a file"),
        ("script-src", "wasm-eval", 'add CSP.WASM_UNSAFE_EVAL to "script-src"'),
        ("script-src", "eval", 'add CSP.UNSAFE_EVAL to "script-src" of SECURE_CSP'),
        ("font-src", "data", 'add "font-src": [CSP.SELF, "data:"] to SECURE_CSP'),
    ],
)
def test_log_says_what_the_policy_refused_and_what_to_add(
    directive: str, blocked: str, advice: str, settings: Any, caplog: Any
) -> None:
    settings.SECURE_CSP = {"script-src": ["'self'"]}

    assert send(directive, blocked).status_code == 204
    assert f"refused {blocked} on http://localhost/page/: {advice}" in caplog.text


@pytest.mark.parametrize(
    "blocked",
    ["chrome-extension", "chrome-extension://abc/x.js", "trusted-types-sink", "https", ""],
)
def test_there_is_no_advice_for_what_nobody_can_add(blocked: str, caplog: Any) -> None:
    assert send("script-src-elem", blocked).status_code == 204
    assert f"refused {blocked} on http://localhost/page/." in caplog.text
    assert "SECURE_CSP" not in caplog.text


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"csp-report": 1}', '{"csp-report": {}}', b"\xff"]
)
def test_body_that_is_no_report_is_refused(body: str | bytes) -> None:
    response = report(RequestFactory().post("/", body, "application/csp-report"))

    assert response.status_code == 400


def test_address_that_is_none_is_refused() -> None:
    assert send("script-src", "http://[").status_code == 400


def test_only_a_post_is_a_report() -> None:
    assert report(RequestFactory().get("/")).status_code == 405
