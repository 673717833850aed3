"""Text that no database takes (serving/invalid_text.py)."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import BadRequest
from django.db import DataError, connection

from serving import invalid_text


@pytest.mark.parametrize("odd", ["\ud800", "a\0"])
def test_text_that_no_database_takes_is_the_clients_mistake(odd: str, db: None) -> None:
    with connection.execute_wrapper(invalid_text.refuse):
        if "\0" in odd and connection.vendor == "sqlite":
            assert not get_user_model().objects.filter(username=odd).exists()
            return
        with pytest.raises(BadRequest):
            get_user_model().objects.filter(username=odd).exists()
        # The connection goes on.
        assert not get_user_model().objects.filter(username="nobody").exists()


def test_other_errors_of_data_are_the_sites() -> None:
    def execute(*arguments: Any) -> None:
        raise DataError("division by zero")

    with pytest.raises(DataError):
        invalid_text.refuse(execute, "select 1/0", None, False, {})
