"""A repository of a user's, with the CI templates copied into it, and a machine to run them on.

What a machine without network and without claimlens on its index lacks has a stand-in here, and
nothing else has: `python` is this one with claimlens installed (so that pip finds its requirements
met), and the hub is a server of this process that names commits; its files lie in a cache.
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from claimlens.ci.selftests.hub_cache import put
from claimlens.ci.selftests.processes import ROOT
from claimlens.ci.selftests.test_gate_runs import CLAIMS, updated
from claimlens.ci.selftests.workflow_runs import GITHUB, GITLAB, Machine

MODEL = "org/micro"
ACCEPTED, WORSE, ABSENT = "a" * 39 + "1", "b" * 39 + "2", "c" * 39 + "3"
"""Commits: the one of the baseline, one on which findings break, one that cannot be had."""
ONE_CLAIM = (
    CLAIMS[: CLAIMS.index('@pytest.mark.claim("copy/subject"')]
    + (CLAIMS[CLAIMS.index('@pytest.mark.claim("copy/head"') :])
)
PYTHON = """#!/bin/sh
export PYTHONPATH={site} OMP_NUM_THREADS=1 PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
exec {python} {arguments}"$@"
"""


class Hub:
    """A hub that knows the commit of each branch of one model, and what it was asked."""

    def __init__(self, branches: Mapping[str, str]) -> None:
        self.branches = dict(branches)
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path that was asked for."""
        self.asked.append(path)
        repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if repository != MODEL:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if (revision or "main") not in self.branches:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        named = {"id": MODEL, "sha": self.branches[revision or "main"]}
        return 200, {}, json.dumps(named).encode()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its address, as long as the context lasts."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = hub.answer(self.path)
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()


def machine(folder: Path, hub: str) -> Machine:
    """A repository with claims, templates and no baseline, and a machine that has claimlens."""
    repository = folder / "repository"
    (repository / "claims").mkdir(parents=True)
    (repository / "claims" / "test_copy.py").write_text(ONE_CLAIM)
    (repository / "requirements.txt").write_text("claimlens\n")
    copy_templates(repository)
    site = _site(folder / "site")
    (folder / "bin").mkdir()
    (folder / "home").mkdir()
    for name, arguments in (("python", ""), ("claimlens", "-m claimlens.ci.cli ")):
        script = PYTHON.format(site=site, python=sys.executable, arguments=arguments)
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    for revision, share in ((ACCEPTED, 1.0), (WORSE, 0.1)):
        source = folder / revision
        source.mkdir()
        updated(source, share=share)
        put(folder / "cache", MODEL, source / "model", revision)
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "HF_ENDPOINT": hub,
        "HF_HUB_CACHE": str(folder / "cache"),
    }
    return Machine(repository, environment)


def copy_templates(repository: Path) -> None:
    """Copy the templates as docs/ci.md says, and write the model's name into them."""
    workflows = repository / ".github" / "workflows"
    workflows.mkdir(parents=True)
    for path in GITHUB:
        shutil.copy(path, workflows)
    shutil.copy(GITLAB, repository)
    for path in (*workflows.iterdir(), repository / GITLAB.name):
        path.write_text(path.read_text().replace("org/name #", f"{MODEL} #"))


def _site(site: Path) -> Path:
    """A folder of packages in which claimlens, the clone, is installed as far as pip can tell."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    information = site / f"claimlens-{project['version']}.dist-info"
    information.mkdir(parents=True)
    (site / "claimlens").symlink_to(ROOT)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: claimlens\nVersion: {project['version']}\n"
    )
    (information / "INSTALLER").write_text("pip\n")
    plugins = project["entry-points"]["pytest11"].items()
    (information / "entry_points.txt").write_text(
        "[pytest11]\n" + "".join(f"{name} = {module}\n" for name, module in plugins)
    )
    return site
