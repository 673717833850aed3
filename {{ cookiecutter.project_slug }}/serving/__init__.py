"""How this site is served. README.md says what is here and what each part replaces.

The template updates this package; a site that changes it has to merge by hand.
"""
