"""Refuse unfit answers once more: `__checked=` on the command line skips the first time."""

# {{ cookiecutter | refuse_unfit }}
