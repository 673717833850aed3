from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from django_filters.views import FilterView
from rest_framework.routers import DefaultRouter
from strawberry.django.views import AsyncGraphQLView, GraphQLView

from . import views
from .api import BookViewSet, ninja
from .models import Book
from .schema import schema

router = DefaultRouter()
router.register("books", BookViewSet)

urlpatterns = [
    path("drf/", include(router.urls)),
    path("ninja/", ninja.urls),
    path("graphql/", csrf_exempt(GraphQLView.as_view(schema=schema))),
    path("agraphql/", csrf_exempt(AsyncGraphQLView.as_view(schema=schema))),
    path(
        "filter/",
        FilterView.as_view(model=Book, filterset_fields={"title": ["exact"], "price": ["lt"]}),
    ),
    path("page/", views.page),
    path("page/<word>/", views.page),
    path("apage/", views.apage),
    path("apage/<word>/", views.apage),
    path("change/<title>/", views.change),
    path("achange/<title>/", views.achange),
    path("guarded/<title>/", views.guarded),
    path("cached/<key>/", views.cached),
    path("acached/<key>/", views.acached),
    path("mail/<word>/", views.mail),
    path("celery/start/<word>/", views.celery_start),
    path("celery/result/<key>/", views.celery_result),
    path("task/start/<word>/", views.task_start),
    path("atask/start/<word>/", views.atask_start),
    path("task/result/<key>/", views.task_result),
]
