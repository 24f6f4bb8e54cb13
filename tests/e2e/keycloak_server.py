"""Keycloak with the realm of keycloak/acme-realm.json, for the tests.

keycloak/fetch has put the program into the cache folder, where all runs share it. What a run writes goes into a folder
of its own, its database is in memory, and it talks to no other Keycloak: two runs at once do not meet.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from authsvc.demo.processes import free_port
from real_issuers import API, FORM, OTHER, PASSWORD, ROBOTS, InFolder

HERE = Path(__file__).parent / "keycloak"
KEYS = "org.keycloak.keys.KeyProvider"
COMPONENTS = "/admin/realms/acme/components"


def installed() -> Path:
    """Where keycloak/fetch puts it."""
    found = re.search(r"^VERSION=(\S+)$", (HERE / "fetch").read_text("utf-8"), re.MULTILINE)
    assert found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "authsvc" / f"keycloak-{found[1]}"


needs_keycloak = pytest.mark.skipif(
    not shutil.which("java") or not installed().is_dir(),
    reason="needs java 17 or newer, and Keycloak by tests/e2e/keycloak/fetch (make test does it where java, mvn and "
    "unzip are installed: apt-get install default-jre-headless maven unzip)",
)


class Keycloak(InFolder):
    start_deadline_s = 120.0  # 12 s on two idle cores, but the cores of a test run are not idle
    stop_deadline_s = 30.0  # kc.sh must not be killed: it would leave its java behind
    roles_claim = "[realm_access, roles]"
    token_url = "/realms/acme/protocol/openid-connect/token"

    def __init__(self) -> None:
        port, folder = free_port(), self.new_folder("keycloak")
        environment = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
            "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",  # it lives too short for the optimising compiler
        }
        super().__init__(_command(folder, port), folder, port, environment)
        self.url = f"http://127.0.0.1:{port}/realms/acme"

    @property
    def entry(self) -> list[str]:
        """By its type, and nothing beside it."""
        return ["type: keycloak", f"base_url: http://127.0.0.1:{self.port}", "realm: acme"]

    def start(self) -> None:
        _lay_out(self.folder)
        super().start()

    def token(self, audience: str = API, role: str | None = "admin") -> str:
        """Keycloak knows no resource parameter: the audience is a matter of the client."""
        return self.machine_token({API: ROBOTS[role], OTHER: "stranger"}[audience])

    def short_token(self) -> str:
        return self.machine_token("hasty")

    def id_token(self, client: str = "robot") -> str:
        form = {"grant_type": "password", "username": "max", "password": PASSWORD, "scope": "openid"}
        token: str = self.post(self.token_url, client, **form)["id_token"]
        return token

    def rotate(self) -> None:
        priority = 1 + max(map(_priority, self._signing_keys()))
        config = {"priority": [str(priority)], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]}
        key = {"name": f"key-{priority}", "providerId": "rsa-generated", "providerType": KEYS, "config": config}
        self._administer("POST", COMPONENTS, json.dumps(key))

    def withdraw(self) -> None:
        *old, _ = sorted(self._signing_keys(), key=_priority)
        for key in old:
            self._administer("DELETE", f"{COMPONENTS}/{key['id']}")

    def _signing_keys(self) -> list[dict[str, Any]]:
        keys = json.loads(self._administer("GET", f"{COMPONENTS}?type={KEYS}"))
        return [key for key in keys if key["providerId"] == "rsa-generated"]

    def _administer(self, method: str, url: str, body: str = "") -> str:
        headers = {"Authorization": f"Bearer {self._admin_token()}", "Content-Type": "application/json"}
        return self.ask(method, url, body, headers)

    def _admin_token(self) -> str:
        """A new one for each call: it lives for a minute only."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": PASSWORD}
        url = self.token_url.replace("/acme/", "/master/")
        token: str = json.loads(self.ask("POST", url, urlencode(form), {"Content-Type": FORM}))["access_token"]
        return token


def _command(folder: Path, port: int) -> list[str]:
    """kc.sh takes the last kc.home.dir it is given, and that is ours."""
    return [
        str(installed() / "bin" / "kc.sh"),
        "start",
        "--optimized",
        "--import-realm",
        "--cache=local",  # otherwise it looks for others on the network
        "--http-enabled=true",
        "--http-host=127.0.0.1",
        f"--http-port={port}",
        f"--hostname=http://127.0.0.1:{port}",  # the issuer's, whatever Host a caller sends
        f"-Dkc.home.dir={folder}",
    ]


def _lay_out(folder: Path) -> None:
    """A home for one run: the program by links, the realm to import, and room to write."""
    (folder / "data" / "import").mkdir(parents=True)
    for part in ("conf", "lib", "providers", "themes"):
        (folder / part).symlink_to(installed() / part)
    shutil.copy(HERE / "acme-realm.json", folder / "data" / "import")


def _priority(key: dict[str, Any]) -> int:
    return int(key["config"]["priority"][0])
