from django.contrib import admin

from .models import Message


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ["sent_at", "room", "author", "text"]
    list_filter = ["room"]
    list_select_related = ["author"]
    readonly_fields = ["sent_at"]
    search_fields = ["text"]
