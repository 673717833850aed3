"""A task for each of the two queues."""

import os

from celery import shared_task
from django.tasks import task

from .models import Book


@shared_task
def celery_books(word: str) -> list[object]:
    return [word, Book.objects.count(), os.getpid()]


@task
def database_books(word: str) -> list[object]:
    return [word, Book.objects.count(), os.getpid()]
