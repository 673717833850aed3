from django.contrib import admin
from django.http import HttpRequest

from .models import Message, Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    list_display = ["name", "last_id"]
    readonly_fields = ["last_id"]
    search_fields = ["name"]


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ["sent_at", "room", "author", "text"]
    list_filter = ["room"]
    list_select_related = ["author", "room"]
    search_fields = ["text"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only posting.py adds messages: it keeps their order and publishes them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Browsers that have received a message would not see the change."""
        return False
