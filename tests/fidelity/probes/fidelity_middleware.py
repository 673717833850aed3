"""Middleware as users write it."""

from inspect import iscoroutinefunction

from django.utils.decorators import sync_and_async_middleware


def sync_only(get_response):
    """Knows nothing of async; Django calls it in a thread."""

    def middleware(request):
        return get_response(request)

    return middleware


@sync_and_async_middleware
def tell_chain(get_response):
    """Tell the view by which of its two ways the request came."""
    if iscoroutinefunction(get_response):

        async def middleware(request):
            request.chain = "async"
            return await get_response(request)

    else:

        def middleware(request):
            request.chain = "sync"
            return get_response(request)

    return middleware
