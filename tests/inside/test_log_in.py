"""Passwords are not guessed, nobody is locked out by somebody else, and no answer tells who
has an account, not even by its time."""

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core import mail
from django.core.cache import cache
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django.test import Client
from django.urls import reverse

from serving import attempts
from {{ cookiecutter.project_slug }}.users import login

OFFICE, ELSEWHERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture(autouse=True)
def nobody_tried_yet() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def log_in(name: str, password: str, address: str = OFFICE, page: str = "login") -> str:
    """Try with a browser of one's own; return the page, or "in"."""
    response = Client(REMOTE_ADDR=address).post(
        reverse(page), {"username": name, "password": password}
    )
    return "in" if response.status_code == 302 else response.content.decode()


def use_up(name: str, address: str = OFFICE) -> None:
    for _ in range(login.ATTEMPTS):
        assert "correct username and password" in log_in(name, "a guess", address)
    assert "Too many attempts" in log_in(name, "a guess", address)


def test_guesses_at_one_account_lock_out_nobody_else(ada: Any) -> None:
    get_user_model().objects.create_user("bob", password="bobbob")
    use_up("bob")

    assert "Too many attempts" in log_in("bob", "bobbob")
    # As another page, another case or another form of a letter would write it.
    for name in ("bob", "BOB", "ｂob"):
        assert "Too many attempts" in log_in(name, "bobbob", page="admin:login")
    # Whoever shares the address, and the same person at home.
    assert log_in("ada", "adaada") == "in"
    assert log_in("bob", "bobbob", ELSEWHERE) == "in"


def test_wrong_password_is_refused(client: Client, ada: Any) -> None:
    response = client.post(reverse("login"), {"username": "ada", "password": "no"})

    assert "Please enter a correct username" in response.content.decode()
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("page", ["login", "admin:login"])
def test_who_gets_in_uses_no_attempts_up(page: str, admin_user: Any) -> None:
    for _ in range(2 * login.ATTEMPTS):
        assert log_in("admin", "password", "2001:db8::1", page) == "in"
    use_up("admin", "2001:db8::1")

    # Not even with the right one, and not from another address of the same network.
    for address in ("2001:db8::1", "2001:db8::2"):
        refusal = log_in("admin", "password", address, page)
        assert "Too many attempts to log in. Try again in 5 minutes." in refusal
    assert log_in("admin", "password", "2001:db8:0:1::1", page) == "in"


def test_one_password_is_not_tried_with_every_account(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_user_model().objects.create_user("bob", password="bobbob")
    assert log_in("ada", "adaada") == "in"
    assert log_in("bob", "bobbob", ELSEWHERE) == "in"
    for number in range(login.ADDRESS_ATTEMPTS):
        assert "Too many" not in log_in(f"account-{number}", "a guess")

    assert "Too many attempts" in log_in("one-more", "a guess")
    assert "Too many attempts" in log_in("bob", "bobbob")
    # She has got in from there before, and is not held up by what others do.
    assert log_in("ada", "adaada") == "in"
    assert log_in("bob", "bobbob", ELSEWHERE) == "in"
    # For that, too, there are so many and no more.
    use_up("ada")


def test_attempts_that_are_refused_do_not_count_for_others(ada: Any) -> None:
    for _ in range(login.ADDRESS_ATTEMPTS + 1):
        log_in("bob", "a guess")

    assert log_in("ada", "adaada") == "in"


def test_attempts_at_once_do_not_all_get_through(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []

    def authenticate(*_: object, **__: object) -> None:
        looked_at.append(1)
        # Meanwhile another one comes.
        log_in("ada", "a guess")

    monkeypatch.setattr("django.contrib.auth.forms.authenticate", authenticate)
    log_in("ada", "a guess")

    assert len(looked_at) == login.ATTEMPTS


@pytest.mark.parametrize("name", ["x\ny", "\x1b[31m", "'", "x" * 150, "\ud800", "\u202ex"])
def test_names_of_any_kind_are_only_wrong(name: str, db: None) -> None:
    keys = [login.LOG_IN.key(name, OFFICE), login.LOG_IN.key(OFFICE)]

    assert all(key.isascii() and key.isprintable() and len(key) < 100 for key in keys)
    assert "correct username and password" in log_in(name.replace("\ud800", "?"), "x")


def test_log_in_works_while_the_cache_is_away(
    ada: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no cache here")

    monkeypatch.setattr(cache, "add", away)

    assert log_in("ada", "adaada") == "in"
    assert "counter of attempts is away" in caplog.text
    assert "no cache here" in caplog.text


def test_log_in_takes_as_long_whoever_has_an_account(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long is the hash of a password: it is made once in each case."""
    get_user_model().objects.create_user("gone", password="x", is_active=False)
    calls = []
    encode = MD5PasswordHasher.encode

    def counted(self: Any, *args: Any) -> str:
        calls.append(1)
        return encode(self, *args)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    pages, counts = set(), set()
    for name in ("ada", "nobody", "gone"):
        calls.clear()
        pages.add("correct username and password" in log_in(name, "wrong"))
        counts.add(len(calls))

    assert (pages, counts) == ({True}, {1})


def reset(email: str, address: str = OFFICE, **headers: str) -> Any:
    return Client(REMOTE_ADDR=address).post(
        reverse("password_reset"), {"email": email}, headers=headers
    )


@pytest.mark.django_db(transaction=True)
def test_reset_answers_before_it_has_looked_for_the_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    get_user_model().objects.create_user("ada", "ada@example.com", "adaada")
    delivered = threading.Event()
    if connection.settings_dict["ATOMIC_REQUESTS"]:
        delivered.set()  # no other thread would see what the request has changed
    send = EmailBackend.send_messages

    def slow(self: Any, messages: Any) -> int:
        assert delivered.wait(30), "the answer waits for its mail"
        return send(self, messages)

    monkeypatch.setattr(EmailBackend, "send_messages", slow)
    answers = [reset(f"{name}@example.com") for name in ("ada", "nobody")]
    delivered.set()

    assert {(one.status_code, one["Location"]) for one in answers} == {
        (302, reverse("password_reset_done"))
    }
    ends = time.monotonic() + 30
    while not mail.outbox and time.monotonic() < ends:
        time.sleep(0.01)
    assert [one.to for one in mail.outbox] == [["ada@example.com"]]


@pytest.mark.django_db(transaction=True)
def test_failure_in_the_background_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise LookupError("for a test")

    attempts.in_background(fail)
    attempts.BACKGROUND.submit(int).result()
    ends = time.monotonic() + 30
    while "for a test" not in caplog.text and time.monotonic() < ends:
        time.sleep(0.01)

    assert "for a test" in caplog.text
{% if cookiecutter.__postgresql %}


@pytest.mark.django_db(transaction=True)
def test_background_keeps_no_connection() -> None:
    both = threading.Barrier(2)

    def keeps() -> bool:
        both.wait(30)
        return connection.connection is not None

    attempts.in_background(get_user_model().objects.count)

    threads = [attempts.BACKGROUND.submit(keeps) for _ in (1, 2)]
    assert not any(thread.result() for thread in threads)
{% endif %}


def test_mailbox_is_not_flooded_from_wherever(ada: Any) -> None:
    for number in range(2 * login.MAILS):
        answer = reset("ADA@example.com", f"192.0.2.{number}")
        # It does not tell.
        assert answer["Location"] == reverse("password_reset_done")

    assert len(mail.outbox) == login.MAILS


def test_mails_are_not_sent_to_everybody_from_one_address(
    ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(login.ADDRESS_ATTEMPTS):
        reset(f"{number}@example.com")
    reset("ada@example.com")
    assert mail.outbox == []

    reset("ada@example.com", ELSEWHERE)
    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    "host",
    ["evil.example", "testserver.evil.example", "testserver@evil.example", "testserver:x"],
)
def test_link_of_a_reset_is_never_to_another_site(host: str, ada: Any) -> None:
    assert reset("ada@example.com", Host=host).status_code == 400
    assert mail.outbox == []

    reset("ada@example.com", **{"X-Forwarded-Host": host, "Forwarded": f"host={host}"})
    [link] = re.findall(r"https?://.*", str(mail.outbox[0].body))
    assert re.match(r"http://testserver/([a-z]+/)?accounts/reset/", link)
