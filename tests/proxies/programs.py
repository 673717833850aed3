"""The proxies as programs, with the ports, names and certificates of production."""

import os
import re
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.network import DOMAIN
from tests.project import clean_environment
from tests.proxies.commands import process, program, run
from tests.services import wait_until

ORIGIN = f"https://{DOMAIN}"
# The proxy of `just serve` answers on this machine only, in plain http.
SERVE = "http://127.0.0.1:8000"


def status(url: str, **options: Any) -> int:
    """Return the status of an answer, 0 if there is none."""
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=20, **options).status_code
    return 0


@contextmanager
def proxy_running(
    proxy: str, text: str, folder: Path, names: dict[str, list[str]]
) -> Iterator[ssl.SSLContext]:
    """Run a proxy of which `text` is the configuration; yield what its visitors trust."""
    folder.mkdir()
    start = {"caddy": caddy_command, "nginx": nginx_command, "serve": serve_command}[proxy]
    command, authority = start(text, folder, names)
    trust, origin = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), SERVE if proxy == "serve" else ORIGIN
    with process(command, folder / "log", env=proxy_environment(folder)) as started:

        def answers() -> bool:
            assert started.poll() is None, f"{proxy} ended at once"
            with suppress(OSError):
                trust.load_verify_locations(authority)
            return status(origin, verify=trust) not in (0, 502, 503)

        wait_until(answers, f"{proxy} answers", 60)
        yield trust


def proxy_environment(folder: Path) -> dict[str, str]:
    """Return the environment of compose's Caddy; a certificate authority of its own is for the
    tests, and an example of what an owner may add."""
    return clean_environment() | {
        "PATH": os.environ["PATH"],
        "SITE_ADDRESS": DOMAIN,
        "CADDY_GLOBAL_OPTIONS": "local_certs\nskip_install_trust",
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }


def mounted(mounts: dict[Path, str], command: str) -> list[str]:
    """Return `command` so that it sees folders and files of a test in other places."""
    binds = " && ".join(f"mount --bind '{own}' '{place}'" for own, place in mounts.items())
    return ["unshare", "--mount", "sh", "-c", f"{binds} && exec {command}"]


def caddy_command(text: str, folder: Path, names: dict[str, list[str]]) -> tuple[list[str], Path]:
    caddy = program("caddy", "caddy")
    (folder / "Caddyfile").write_text(text)
    # Docker's name server tells the addresses of all replicas, as this file does.
    (folder / "hosts").write_text(
        "127.0.0.1 localhost\n"
        + "".join(f"{address} {name}\n" for name, known in names.items() for address in known)
    )
    command = f"'{caddy}' run --config '{folder}/Caddyfile'"
    authority = folder / "caddy/pki/authorities/local/root.crt"
    media = folder.parent / "media"
    media.mkdir(exist_ok=True)
    return mounted({folder / "hosts": "/etc/hosts", media: "/media"}, command), authority


def serve_command(text: str, folder: Path, names: dict[str, list[str]]) -> tuple[list[str], Path]:
    """As config/serve.py does it, with the servers where they stand behind nginx."""
    (folder / "Caddyfile").write_text(text)
    variables = {
        "PORT": 8000,
        "WSGI_PORT": 8001,
        "ASGI_PORT": 8002,
        "ASGI_PATHS": "/ws/* /events/* /async/*",
    }
    return [
        "env", *(f"{name}={value}" for name, value in variables.items()),
        program("caddy", "caddy"), "run", "--adapter", "caddyfile",
        "--config", str(folder / "Caddyfile"),
    ], folder / "none"  # fmt: skip


def nginx_command(text: str, folder: Path, names: dict[str, list[str]]) -> tuple[list[str], Path]:
    mounts, authority = debian(folder, {"site": text})
    return mounted(mounts, f"{program('nginx', 'nginx')} -g 'daemon off;'"), authority


def debian(folder: Path, sites: dict[str, str]) -> tuple[dict[Path, str], Path]:
    """Make Debian's folders of nginx with these sites enabled; return where each belongs, and
    the certificate of the site."""
    program("nginx", "nginx")
    etc = folder / "etc"
    shutil.copytree("/etc/nginx", etc / "nginx", symlinks=True)
    for name in ("passwd", "group", "nsswitch.conf", "ssl/openssl.cnf"):
        (etc / name).parent.mkdir(exist_ok=True)
        shutil.copy(f"/etc/{name}", etc / name)
    enabled = etc / "nginx/sites-enabled"
    shutil.rmtree(enabled)
    enabled.mkdir()
    for name, text in sites.items():
        (enabled / name).write_text(text)
    live = etc / "letsencrypt/live" / DOMAIN
    live.mkdir(parents=True)
    run(
        program("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "2",
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-keyout", live / "privkey.pem", "-out", live / "fullchain.pem",
        "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}",
    )  # fmt: skip
    challenges = folder / "www/letsencrypt/.well-known/acme-challenge"
    challenges.mkdir(parents=True)
    (challenges / "token").write_text("proof")
    mounts = {etc: "/etc", folder / "www": "/var/www"}
    for name, place in (("run", "/run"), ("logs", "/var/log/nginx"), ("lib", "/var/lib")):
        (folder / name).mkdir()
        mounts[folder / name] = place
    (folder / "lib/nginx").mkdir()
    media = folder.parent / "media"
    if media.exists():
        place = re.findall(r"alias (/\S+)/;", sites["site"])[0]
        (folder / "lib" / Path(place).relative_to("/var/lib")).mkdir(parents=True)
        mounts[media] = place
    return mounts, live / "fullchain.pem"
