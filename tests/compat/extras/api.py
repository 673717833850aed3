"""The same books through django-ninja and through Django REST framework."""

from django.http import HttpRequest
from ninja import ModelSchema, NinjaAPI
from rest_framework import serializers, viewsets

from .models import Book

ninja = NinjaAPI()


class BookOut(ModelSchema):
    class Meta:
        model = Book
        fields = ["id", "title", "price"]


@ninja.get("/books", response=list[BookOut])
def books(request: HttpRequest, title: str) -> object:
    return Book.objects.filter(title=title)


@ninja.get("/abooks", response=list[BookOut])
async def abooks(request: HttpRequest, title: str) -> object:
    return [book async for book in Book.objects.filter(title=title)]


class BookSerializer(serializers.ModelSerializer):
    class Meta:
        model = Book
        fields = ["id", "title", "price"]


class BookViewSet(viewsets.ModelViewSet):
    queryset = Book.objects.order_by("pk")
    serializer_class = BookSerializer
