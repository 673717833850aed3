import os

from celery.result import AsyncResult
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.tasks import TaskResultStatus, default_task_backend
from guardian.decorators import permission_required_or_403

from .models import Book
from .tasks import celery_books, database_books


def page(request: HttpRequest, word: str = "") -> HttpResponse:
    """A whole page, or what htmx asked for."""
    return render(request, "extras/page.html")


async def apage(request: HttpRequest, word: str = "") -> HttpResponse:
    return render(request, "extras/page.html")


@login_required
def change(request: HttpRequest, title: str) -> JsonResponse:
    book = Book.objects.create(title=title)
    return JsonResponse({"by": book.history.get().history_user.username})


@login_required
async def achange(request: HttpRequest, title: str) -> JsonResponse:
    book = await Book.objects.acreate(title=title)
    entry = await book.history.select_related("history_user").aget()
    return JsonResponse({"by": entry.history_user.username})


@permission_required_or_403("extras.view_book", (Book, "title", "title"))
def guarded(request: HttpRequest, title: str) -> HttpResponse:
    return HttpResponse(f"{request.user} may see {title}")


def cached(request: HttpRequest, key: str) -> JsonResponse:
    """Count in the cache; time to live is what only django-redis can tell."""
    cache.add(key, 0, timeout=60)
    return JsonResponse({"count": cache.incr(key), "ttl": cache.ttl(key), "pid": os.getpid()})


async def acached(request: HttpRequest, key: str) -> JsonResponse:
    await cache.aadd(key, 0, timeout=60)
    return JsonResponse({"count": await cache.aincr(key), "pid": os.getpid()})


def mail(request: HttpRequest, word: str) -> JsonResponse:
    message = EmailMessage(word, "A body.", to=["ada@example.com"])
    sent = message.send()
    return JsonResponse({"sent": sent, "status": sorted(message.anymail_status.status)})


def celery_start(request: HttpRequest, word: str) -> JsonResponse:
    return JsonResponse({"id": celery_books.delay(word).id})


def celery_result(request: HttpRequest, key: str) -> JsonResponse:
    result = AsyncResult(key)
    return JsonResponse({"ready": result.ready(), "result": result.result})


def task_start(request: HttpRequest, word: str) -> JsonResponse:
    return JsonResponse({"id": database_books.enqueue(word).id})


async def atask_start(request: HttpRequest, word: str) -> JsonResponse:
    result = await database_books.aenqueue(word)
    return JsonResponse({"id": result.id})


def task_result(request: HttpRequest, key: str) -> JsonResponse:
    result = default_task_backend.get_result(key)
    ready = result.status == TaskResultStatus.SUCCESSFUL
    return JsonResponse({"ready": ready, "result": result.return_value if ready else None})
