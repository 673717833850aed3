"""A browser test as Channels documents it, after a test that has asked for a page."""

import asyncio
import os
import urllib.request

from channels.testing import ChannelsLiveServerTestCase
from django.test import TransactionTestCase, override_settings
from fidelity_application import NAME, status


class FirstRequest(TransactionTestCase):
    def test_page(self):
        assert asyncio.run(status()) == 200


@override_settings(ASGI_APPLICATION=NAME)
class LiveServer(ChannelsLiveServerTestCase):
    def test_page(self):
        assert os.environ["FIDELITY_APPLICATION"]
        with urllib.request.urlopen(f"{self.live_server_url}/f/page/", timeout=25) as answer:
            assert answer.status == 200
