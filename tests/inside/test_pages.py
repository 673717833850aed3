"""Who may keep a page, who may be sent where, and what a form asks for."""

import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import AsyncClient, Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

EVIL = [
    "https://evil.example/",
    "http://evil.example",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https:evil.example",
    "https:/evil.example",
    "http:///evil.example",
    " //evil.example",
    "\t//evil.example",
    "/\t/evil.example",
    "https://testserver@evil.example",
    "https://testserver.evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "\x00//evil.example",
]


@pytest.fixture(autouse=True)
def nobody_tried_yet() -> None:
    cache.clear()


def patterns(resolver: URLResolver | None = None) -> list[URLPattern]:
    """Return all addresses of the site."""
    found = []
    for one in (resolver or get_resolver()).url_patterns:
        found += patterns(one) if isinstance(one, URLResolver) else [one]
    return found


def names(resolver: URLResolver | None = None, space: str = "") -> set[str]:
    """Return the names of all addresses of the site."""
    found = set()
    for one in (resolver or get_resolver()).url_patterns:
        if isinstance(one, URLResolver):
            found |= names(one, f"{space}{one.namespace}:" if one.namespace else space)
        elif one.name:
            found.add(space + one.name)
    return found


def addresses() -> dict[str, str]:
    """Return the addresses of all forms and pages by their names: also of one of each kind
    that needs to be told what it is about."""
    arguments: dict[str, dict[str, Any]] = {
        "password_reset_confirm": {"uidb64": "MQ", "token": "set-password"},
        "admin:auth_user_password_change": {"id": 1},
        "admin:app_list": {"app_label": "users"},
        "chat:room": {"room": "lobby"},
    }
    found = {}
    for name in names():
        kinds = ("change", "delete", "history")
        known = {"object_id": 1} if name.endswith(kinds) else None
        for options in (None, known, arguments.get(name)):
            try:
                found[name] = reverse(name, kwargs=options)
            except NoReverseMatch:
                continue
    return found


PRIVATE = [
    "/",
    "/admin/",
    "/accounts/password_change/",
    "/no/such/page/",
{% if cookiecutter.__channels %}
    "/chat/",
    "/chat/lobby/",
{% endif %}
{% if cookiecutter.__sse %}
    "/notifications/",
{% endif %}
]


@pytest.mark.parametrize("path", PRIVATE)
def test_page_for_somebody_is_kept_by_nobody(path: str, client: Client, db: None) -> None:
    client.force_login(get_user_model().objects.create_superuser("root"))
    page = client.get(path, follow=True)  # to its language, if the site has several

    assert page.status_code in (200, 404)
    assert {"private", "no-store"} <= set(page["Cache-Control"].split(", "))
    assert "Cookie" in page["Vary"]


@pytest.mark.parametrize("path", ["/", "/no/such/page/"])
def test_page_for_everybody_may_be_kept(path: str, client: Client, db: None) -> None:
    client.cookies["sessionid"] = "x" * 32

    assert "Cache-Control" not in client.get(path)


@pytest.mark.django_db(transaction=True)
def test_page_for_somebody_is_kept_by_nobody_under_asgi() -> None:
    client = AsyncClient()
    client.force_login(get_user_model().objects.create_user("ada"))

    page = async_to_sync(client.get)(reverse("home"))

    assert page["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("where", EVIL)
def test_nobody_is_sent_to_another_site(where: str, ada: Any, client: Client) -> None:
    fields = {"username": "ada", "password": "adaada", "next": where}
    answers = [
        client.post(reverse("login"), fields),
        client.get(reverse("login"), {"next": where}),
        client.post(reverse("login"), fields, query_params={"next": where}),
        client.post(reverse("logout"), {"next": where}),
        client.post(reverse("admin:login"), fields),
        client.post(reverse("admin:logout"), {"next": where}),
    ]

    for answer in answers:
        to = answer.headers.get("Location", "/")
        assert to.startswith("/"), to
        assert not to.startswith(("//", "/\\")), to
        assert "evil" not in to
    # What a page does with it is a link, of which it is a part.
    for path in ("//evil.example/x", "//evil.example", "/\\evil.example/%2f.."):
        to = client.get(path).headers.get("Location", "/")
        assert not to.startswith(("//", "/\\", "http")), to


FORMS = {
    "login",
    "logout",
    "password_change",
    "password_reset",
    "password_reset_confirm",
    "admin:login",
    "admin:users_user_add",
    "admin:users_user_change",
    "admin:users_user_changelist",
    "admin:users_user_delete",
    "admin:auth_user_password_change",
{% if cookiecutter.__sse %}
    "notifications:list",
    "admin:notifications_notification_delete",
{% endif %}
{% if cookiecutter.__channels %}
    "admin:chat_message_delete",
{% endif %}
}


def test_no_form_works_without_its_token(db: None) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(get_user_model().objects.create_superuser("root"))
    taken = []
    for pattern in patterns():
        exempt = getattr(pattern.callback, "csrf_exempt", False)
        if exempt:
            taken.append(pattern.name or str(pattern.pattern))
    # In development alone, where it writes a line to the log.
    assert set(taken) <= {"csp-report/"}

    found = addresses()
    assert set(found) >= FORMS
    for name, path in found.items():
        assert strict.post(path, {"next": "/"}).status_code == 403, name
        # A token of somebody's own choice is none.
        strict.cookies["csrftoken"] = "a" * 32
        forged = {"csrfmiddlewaretoken": "b" * 32}
        assert strict.post(path, forged).status_code == 403, name


def test_session_that_somebody_chose_is_not_taken_over(ada: Any, client: Client) -> None:
    attacker = Client()
    attacker.post(reverse("login"), {"username": "ada", "password": "wrong"})
    chosen = "a" * 32
    client.cookies["sessionid"] = chosen
    client.get(reverse("login"))
    token = client.cookies["csrftoken"].value
    fields = {"username": "ada", "password": "adaada"}
    cookie = client.post(reverse("login"), fields).cookies[settings.SESSION_COOKIE_NAME]

    assert cookie.value != chosen
    assert (cookie["httponly"], cookie["samesite"], cookie["domain"]) == (True, "Lax", "")
    # A token that somebody planted before is no good any more.
    assert client.cookies["csrftoken"].value != token
    first = cookie.value
    # A second person at the same browser, and one at a session that was left open.
    get_user_model().objects.create_user("bob", password="bobbob")
    client.post(reverse("login"), {"username": "bob", "password": "bobbob"})
    assert client.cookies[settings.SESSION_COOKIE_NAME].value != first
    attacker.cookies["sessionid"] = first
    assert "Log out" not in attacker.get("/").content.decode()
    before = client.cookies["sessionid"].value
    client.post(reverse("logout"))
    attacker.cookies["sessionid"] = before
    assert "Log out" not in attacker.get("/").content.decode()


def test_policy_leaves_no_way_for_a_script_that_was_slipped_in(
    client: Client, db: None
) -> None:
    paths = ["/", "/", "/none/", "/accounts/login/", "/admin/login/"]
    pages = [client.get(path, follow=True) for path in paths]
    client.force_login(get_user_model().objects.create_superuser("root"))
    admin = [path for name, path in addresses().items() if name.startswith("admin:users")]
    pages += [client.get(path, follow=True) for path in (*PRIVATE, *admin)]
    policies = [page["Content-Security-Policy"] for page in pages]

    for policy in policies:
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert "unsafe" not in policy
        assert "*" not in policy
        nothing = {rules[name] for name in ("object-src", "base-uri", "frame-ancestors")}
        assert nothing == {"'none'"}
        assert rules["form-action"] == rules["default-src"] == "'self'"
        assert not re.search(r"\bdata:", rules["script-src"])
    nonces = [re.findall(r"'nonce-([\w-]+)'", policy) for policy in policies[:2]]
    assert all(len(nonce) >= 22 for found in nonces for nonce in found)
    assert set(nonces[0]).isdisjoint(nonces[1])
{% if cookiecutter.__both or cookiecutter.__channels %}
    for page, found in zip(pages, nonces, strict=False):
        assert f'nonce="{found[0]}"' in page.content.decode()
{% endif %}
