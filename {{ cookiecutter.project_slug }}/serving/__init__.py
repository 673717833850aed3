"""How this site is served. README.md says what is here and what each part replaces.

The template updates this package; a site that changes it has to merge by hand.
"""

__version__ = "0.1.0"
