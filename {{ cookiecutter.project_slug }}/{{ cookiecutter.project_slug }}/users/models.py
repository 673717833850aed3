from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A person who can log in.

    Empty on purpose: you can add fields later. Django's built-in user model does not allow
    that, and a project cannot easily change to its own model after the first migration.
    """
