"""A project's own tests are kept apart from the site, and from each other."""

{% if cookiecutter.__asgi %}
import os
import subprocess
import sys
from pathlib import Path
{% else %}
from pathlib import Path
{% endif %}

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage


def test_upload_of_a_test_is_not_among_those_of_the_site() -> None:
    name = default_storage.save("of-a-test.txt", ContentFile("x"))

    assert default_storage.exists(name)
    assert not Path(settings.MEDIA_ROOT, name).exists()
{% if cookiecutter.__asgi %}


def test_two_runs_at_once_have_two_databases() -> None:
    code = "from tests.settings import DATABASES as d; print(d['default']['TEST']['NAME'])"
    variables = os.environ | {"DATABASE_URL": "sqlite:///db.sqlite3"}
    runs = [
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, check=True
        )
        for _ in range(2)
    ]

    assert runs[0].stdout.startswith(str(settings.BASE_DIR).encode())
    assert runs[0].stdout != runs[1].stdout
{% endif %}
