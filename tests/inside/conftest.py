from typing import Any

import pytest
from django.contrib.auth import get_user_model
{% if cookiecutter.__sse %}

from tests.browser import open_stream as open_stream
{% endif %}


@pytest.fixture
def ada(db: None) -> Any:
    """A person with an account; the password is the user name, twice."""
    return get_user_model().objects.create_user("ada", "ada@example.com", "adaada")
