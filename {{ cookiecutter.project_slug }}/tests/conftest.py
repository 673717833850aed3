import pytest

{% if cookiecutter.__sse %}
from tests.browser import open_stream as open_stream
{% endif %}
from {{ cookiecutter.project_slug }}.users.models import User


@pytest.fixture
def ada(db: None) -> User:
    """A user. The password is the user name, twice."""
    return User.objects.create_user("ada", "ada@example.com", "adaada")
