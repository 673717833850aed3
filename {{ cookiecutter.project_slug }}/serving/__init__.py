# The template updates this file: see serving/README.md.
"""How this site is served. README.md explains each module. Do not edit: it is updated."""

__version__ = "0.1.0"
