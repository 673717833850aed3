"""Redis as providers give it: over TLS, for a user with a password, on a Unix socket."""

import shutil
import subprocess
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.conftest import Bake
from tests.project import PRODUCTION, Project
from tests.services import answers, ended, free_port, missing, wait_until

pytestmark = pytest.mark.serve

PASSWORD = "a/b#c?d@e:f%g;h,i é"
# Whatever uses Redis does so once, each in the way in which the site does.
USE = """
import asyncio, django
django.setup()
from channels.layers import get_channel_layer
from django.core.cache import cache
from serving.live import hints

cache.set("name", "kept")
assert cache.get("name") == "kept"

async def layer():
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "said"})
    assert (await asyncio.wait_for(layer.receive(channel), 30))["type"] == "said"
    await layer.flush()

async def hint():
    heard = hints.subscribe()
    assert await asyncio.wait_for(anext(heard), 30) is None
    await hints.apublish(hints.Hint("news", "lobby", 7))
    assert await asyncio.wait_for(anext(heard), 30) == ("news", "lobby", 7)
    await heard.aclose()

asyncio.run(layer())
asyncio.run(hint())
print("all of it works")
"""


@pytest.fixture(scope="module")
def project(install: Bake) -> Project:
    return install(interface="both", realtime="channels", database="sqlite")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URLs of a Redis that nobody uses without a password."""
    program, openssl = shutil.which("redis-server"), shutil.which("openssl")
    if not program or not openssl:
        missing("Redis or openssl", "redis-server openssl")
    folder = tmp_path_factory.mktemp("redis")
    subprocess.run(
        [openssl, "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec",
         "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem",
         "-out", folder / "certificate.pem"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    plain, tls, file = free_port(), free_port(), folder / "redis socket"
    rights = "allchannels allkeys +@all"
    (folder / "redis.conf").write_text(
        f"bind 127.0.0.1\nport {plain}\ntls-port {tls}\nsave ''\ndir {folder}\n"
        f"unixsocket '{file}'\ntls-auth-clients no\ntls-cert-file {folder}/certificate.pem\n"
        f"tls-key-file {folder}/key.pem\nuser default off\n"
        f'user app on ">{PASSWORD}" {rights}\n'
    )
    login = f"app:{quote(PASSWORD, safe='')}@"
    process = subprocess.Popen([program, folder / "redis.conf"], stdout=(folder / "log").open("w"))
    with ended(process):
        wait_until(lambda: answers(tls), "Redis listens")
        yield {
            "user and password": f"redis://{login}localhost:{plain}/1",
            "TLS": f"rediss://{login}localhost:{tls}/0?ssl_ca_certs={folder}/certificate.pem",
            "TLS, unverified": f"rediss://{login}127.0.0.1:{tls}?ssl_cert_reqs=none",
            "TLS, nobody vouches": f"rediss://{login}localhost:{tls}/0",
            "socket": f"unix://{login}{quote(str(file))}?db=2",
        }


def use(project: Project, url: str) -> subprocess.CompletedProcess[str]:
    return project.run(
        "python", "-c", USE, **PRODUCTION,
        DJANGO_SETTINGS_MODULE="config.settings", REDIS_URL=url,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["user and password", "TLS", "TLS, unverified", "socket"])
def test_cache_channel_layer_and_hints_work(
    project: Project, server: dict[str, str], how: str
) -> None:
    assert use(project, server[how]).stdout == "all of it works\n"


def test_certificate_that_nobody_vouches_for_is_not_accepted(
    project: Project, server: dict[str, str]
) -> None:
    run = use(project, server["TLS, nobody vouches"])

    assert run.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in run.stdout
