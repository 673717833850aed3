import json
from typing import Any

import pytest
from django.test import RequestFactory

from serving.csp import report

CDN = "https://cdn.example/x.js"


@pytest.mark.parametrize(
    ("directive", "blocked", "advice"),
    [
        ("script-src-elem", CDN, 'add "https://cdn.example" to "script-src" of SECURE_CSP'),
        ("style-src-attr", "inline", 'give the element nonce="{% raw %}{{ csp_nonce }}{% endraw %}"'),
        ("script-src", "eval", 'add CSP.UNSAFE_EVAL to "script-src" of SECURE_CSP'),
        ("font-src", "data", 'add "font-src": [CSP.SELF, "data:"] to SECURE_CSP'),
    ],
)
def test_log_says_what_the_policy_refused_and_what_to_add(
    directive: str, blocked: str, advice: str, settings: Any, caplog: Any
) -> None:
    settings.SECURE_CSP = {"script-src": ["'self'"]}
    found = {
        "blocked-uri": blocked,
        "document-uri": "http://localhost/page/",
        "effective-directive": directive,
    }
    body = json.dumps({"csp-report": found})

    response = report(RequestFactory().post("/", body, "application/csp-report"))

    assert response.status_code == 204
    assert f"refused {blocked} on http://localhost/page/: {advice}" in caplog.text
