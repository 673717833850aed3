from django.contrib import admin
from guardian.admin import GuardedModelAdmin
from import_export.admin import ImportExportModelAdmin
from simple_history.admin import SimpleHistoryAdmin

from .models import Book


@admin.register(Book)
class BookAdmin(ImportExportModelAdmin, SimpleHistoryAdmin, GuardedModelAdmin):
    pass
