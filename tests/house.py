"""A running site with a Redis of its own, both of which can be started again where they were."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import services
from tests.project import Project
from tests.services import free_port, missing
from tests.site import COMMANDS, Site, running


def path_with_only(programs: list[str], folder: Path) -> str:
    """Return a PATH of `folder` in which just these programs of the machine are found."""
    folder.mkdir()
    for name in ["sh", *programs]:
        program = shutil.which(
            name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
        )
        if not program:
            missing(name, name)
        (folder / name).symlink_to(program)
    return str(folder)


def variables_of(
    project: Project, start: str, folder: Path, variables: dict[str, str]
) -> dict[str, str]:
    """Return `variables`, with a PATH that has just the proxy that a start is about."""
    if COMMANDS[start][0] != "just":
        return variables
    proxies = ["caddy"] if start == "caddy" else []
    return variables | {"PATH": f"{project.bin}:{path_with_only(proxies, folder / 'bin')}"}


class House:
    """A site, started in one of its ways, and its Redis."""

    site: Site

    def __init__(
        self, project: Project, start: str, folder: Path, variables: dict[str, str]
    ) -> None:
        self.project = project
        self.start = start
        self.folder = folder
        self.port = free_port(3)
        self.redis_port = free_port()
        # What a command needs to work on the data of the site, too.
        self.variables = variables_of(project, start, folder, variables) | {
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0"
        }
        self.redis = ExitStack()
        self.server = ExitStack()

    def __enter__(self) -> Self:
        self.start_redis()
        self.start_site()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The site prints its log if it was an error that ends it.
        self.server.__exit__(kind, error, trace)
        self.redis.close()

    def start_redis(self) -> None:
        self.redis.enter_context(services.redis(self.folder, self.redis_port))

    def restart_redis(self) -> None:
        self.redis.close()
        self.start_redis()

    def start_site(self, **changes: str) -> None:
        """Start the site, with some variables changed from now on."""
        self.variables |= changes
        self.site = self.server.enter_context(
            running(
                self.project, COMMANDS[self.start], self.folder / "log", self.start, self.port,
                **self.variables,
            )
        )  # fmt: skip

    def restart_site(self) -> None:
        self.site.stop()
        self.server.close()
        self.start_site()

    def shell(self, code: str) -> str:
        """Run code in a process of its own, as a command would; return what it prints."""
        return self.project.must(
            "python", "manage.py", "shell", "-v", "0", "-c", code, **self.variables
        )
