from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100)


class Entry(models.Model):
    """One of some hundred rows; the page shows twenty."""

    number = models.IntegerField(unique=True)
    title = models.CharField(max_length=200)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    written_at = models.DateTimeField(auto_now_add=True)


def fill() -> None:
    """Write the rows, unless they are there."""
    if Entry.objects.exists():
        return
    authors = [Author.objects.create(name=f"Author {number}") for number in range(10)]
    Entry.objects.bulk_create(
        Entry(number=number, title=f"Entry {number} & others", author=authors[number % 10])
        for number in range(500)
    )
