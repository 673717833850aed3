# The template updates this file: see serving/README.md.
"""How this site is served. README.md explains each module and what it replaces.

If you edit it, you must merge each update by hand.
"""

__version__ = "0.1.0"
