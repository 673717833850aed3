"""The settings of the project's own tests, with the views of these."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

ROOT_URLCONF = "fidelity_urls"

# Named, as ChannelsLiveServerTestCase wants it: it would put "test_" before "test_" else.
DATABASES["default"]["TEST"] = {"NAME": f"test_live_{os.environ.get('PORT')}"}
