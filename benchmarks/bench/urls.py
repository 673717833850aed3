from django.urls import path

from . import views

urlpatterns = [
    path("trivial/", views.trivial),
    path("page/", views.page),
    path("blocking/", views.blocking),
    path("trivial-async/", views.trivial_async),
    path("waiting/", views.waiting),
    path("rows-async/", views.rows_async),
]
