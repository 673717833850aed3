# The template updates this file: see serving/README.md.
"""How this site is served. README.md says what is here and what each part replaces.

A site that changes it has to merge by hand.
"""

__version__ = "0.1.0"
