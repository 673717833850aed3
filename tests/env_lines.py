"""Values that are awkward to write in a file of settings, for every reader of such files."""

# What may stand between single quotes, and is the same to all readers: .env under just and
# manage.py, compose's and systemd's. That is all but one of those, and \ before one.
QUOTED = [
    "plain", "pa$word1x", "${HOME}-$HOME-$(id)-`id`", "a#b", "a #b", "# a", "two words",
    " at both ends ", 'say "yes"', "a=b==", "100%20%s%(x)s", "Zoë 👋", "", "!*?[a]~;&|<>",
    "back\\slash\\n", "a: b", "$$", "\ttab", "smtp+tls://user:p%27w@host:587",
]  # fmt: skip
# What may stand behind the = of .env without quotes, and what it means there.
UNQUOTED = {
    "pa$word1x": "pa$word1x",
    "${HOME}-$HOME-$(id)-`id`": "${HOME}-$HOME-$(id)-`id`",
    "$$": "$$",
    "a#b": "a#b",
    "a #b": "a",
    "two words": "two words",
    "a\ttab": "a\ttab",
    "it's": "it's",
    'say "yes"': 'say "yes"',
    "a=b==": "a=b==",
    "100%20%s%(x)s": "100%20%s%(x)s",
    "back\\slash\\n": "back\\slash\\n",
    "Zoë 👋": "Zoë 👋",
    "": "",
    "!*?[a]~;&|<>": "!*?[a]~;&|<>",
}
