"""Packages for pages, and what people put into them."""

import csv
import io
import json
import re
import struct
import zlib

import pytest

from tests.compat.shop import Shop, row, word

pytestmark = pytest.mark.compat


@row("django-htmx")
def test_htmx(shop: Shop) -> None:
    """request.htmx in a sync and in an async view."""
    for prefix in shop.prefixes:
        for path in (f"{prefix}/page/", f"{prefix}/apage/"):
            assert "<p>the page</p>" in shop.site.get(path).text
            part = shop.site.get(path, headers={"HX-Request": "true", "HX-Target": "list"})
            assert "<p>a part for list</p>" in part.text


@row("django-filter")
def test_filter(shop: Shop) -> None:
    """A FilterView with a condition, and without."""
    for prefix in shop.prefixes:
        everything = shop.site.get(f"{prefix}/filter/").text
        assert "guarded" in everything
        assert "cheap" in everything
        cheap = shop.site.get(f"{prefix}/filter/?price__lt=5&title=cheap").text
        assert re.findall(r"<li>(.*)</li>", cheap) == ["cheap"]
        assert "<li>" not in shop.site.get(f"{prefix}/filter/?price__lt=5&title=guarded").text


@row("django-import-export")
def test_import_export(shop: Shop) -> None:
    """The export of the admin, as CSV."""
    with shop.browser("ada") as client:
        address = "/admin/extras/book/export/"
        form = client.get(address).text
        fields = dict.fromkeys(re.findall(r'<input type="checkbox" name="([^"]+)"', form), "on")
        option = re.search(r'<option value="(\d+)">csv', form)
        assert option, form
        export = shop.site.submit(client, address, format=option[1], **fields)
        assert export.headers["Content-Type"] == "text/csv"
        titles = [book["title"] for book in csv.DictReader(io.StringIO(export.text))]
        assert {"guarded", "cheap"} <= set(titles)


def png() -> bytes:
    """Return a picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\x00\xff\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    )


@row("wagtail")
def test_wagtail(shop: Shop) -> None:
    """Log-in, an image uploaded, a page published and read."""
    title = word()
    with shop.browser() as client:
        shop.site.submit(
            client, "/cms/login/", username="ada", password="password-of-ada", next="/cms/"
        )
        page = client.get("/cms/images/add/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token
        fields = {"csrfmiddlewaretoken": token[1]}
        files = {"file": (f"{title}.png", png(), "image/png")}
        uploaded = client.post(
            "/cms/images/add/", data=fields | {"title": title, "tags": ""}, files=files
        )
        assert uploaded.status_code == 200
        assert title in client.get("/cms/images/").text
        media = shop.site.project.path / "media" / "original_images" / f"{title}.png"
        assert media.read_bytes() == png()

        text = {"key": "a", "text": f"About {title}", "type": "unstyled", "depth": 0,
                "inlineStyleRanges": [], "entityRanges": []}  # fmt: skip
        counts = ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")
        published = client.post(
            "/cms/pages/add/extras/article/2/",
            data=fields
            | {f"comments-{count}": "0" for count in counts}
            | {
                "title": title,
                "slug": title,
                "body": json.dumps({"blocks": [text], "entityMap": {}}),
                "action-publish": "action-publish",
            },
        )
        assert published.url.path == "/cms/pages/2/", published.text
    article = shop.site.get(f"/articles/{title}/").text
    assert f"<h1>{title}</h1>" in article
    assert f"About {title}</p>" in article
