import asyncio
import time

from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .models import Entry

# Seconds that a view waits, as for another site. measures.py computes its bounds from it.
WAIT = 0.05


def trivial(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def page(request: HttpRequest) -> HttpResponse:
    """Ask the database three times and render a page that extends the site's base.html."""
    entries = Entry.objects.select_related("author").order_by("-number")[:20]
    context = {
        "count": Entry.objects.count(),
        "entries": entries,
        "chosen": Entry.objects.get(number=250),
    }
    return render(request, "bench/page.html", context)


def blocking(request: HttpRequest) -> HttpResponse:
    time.sleep(WAIT)
    return HttpResponse("ok")


# ATOMIC_REQUESTS, which one subject has, refuses async views that are not marked.
@non_atomic_requests
async def trivial_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


@non_atomic_requests
async def waiting(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(WAIT)
    return HttpResponse("ok")


@non_atomic_requests
async def rows_async(request: HttpRequest) -> HttpResponse:
    count = await Entry.objects.acount()
    chosen = await Entry.objects.aget(number=250)
    return HttpResponse(f"{count} {chosen.title}")
