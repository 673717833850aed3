from django.db import models
from simple_history.models import HistoricalRecords
from wagtail.admin.panels import FieldPanel
from wagtail.fields import RichTextField
from wagtail.models import Page


class Book(models.Model):
    title = models.CharField(max_length=100)
    price = models.IntegerField(default=10)
    history = HistoricalRecords()

    def __str__(self) -> str:
        return self.title


class Article(Page):
    body = RichTextField(blank=True)

    content_panels = [*Page.content_panels, FieldPanel("body")]
