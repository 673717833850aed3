# The template updates this file: see serving/README.md.
"""The code between the server and Django. README.md explains each module."""

__version__ = "0.2.0"
