from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from .login import LimitedAdminForm
from .models import User

admin.site.login_form = LimitedAdminForm

admin.site.register(User, UserAdmin)
