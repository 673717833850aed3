from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A person who can log in.

    Empty on purpose: with a model of its own from the first migration on, a project can
    add fields later, which the built-in one does not allow.
    """
