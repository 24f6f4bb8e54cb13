"""The container files, read as files: what they name exists, and nothing runs with more rights than it needs."""

import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from authsvc import nginx
from authsvc.adapters import config
from authsvc.demo.processes import NotFound, find_nginx

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "authsvc")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
FINAL_STAGE = "FROM " + DOCKERFILE.rpartition("\nFROM ")[2]
NAMES = ("authsvc", "api", "memcached")

each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_of_ours = pytest.mark.parametrize("name", OURS)


def steps(dockerfile: str, word: str) -> list[str]:
    return re.findall(rf"^{word}\s+(.+)$", dockerfile, re.MULTILINE)


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(host path, path inside, mode), with ${NAME:-default} as its default."""
    found = []
    for text in service.get("volumes", []):
        host, inside, mode = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).split(":")
        found.append((host, inside, mode))
    return found


# ---- docker-compose.yml ----


def test_it_has_the_three_parts_and_the_demo_behind_its_profile() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {
        "nginx",
        "authsvc",
        "memcached",
    }
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "issuer": ["demo"],
        "api": ["demo"],
    }


def test_it_has_no_version_key() -> None:
    assert "version" not in COMPOSE


@each_service
def test_it_may_do_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert user.isdigit()
    assert group.isdigit()
    assert 0 not in (int(user), int(group))
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["tmpfs"] == ["/tmp"]


@each_service
def test_its_health_is_checked(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert check["interval"]
    assert check["timeout"]
    assert check["retries"]


@each_service
def test_only_loopback_reaches_it_from_outside(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_only_nginx_is_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["nginx"]


def test_memcached_is_reached_by_authsvc_alone() -> None:
    assert [name for name, service in SERVICES.items() if "store" in service.get("networks", [])] == [
        "authsvc",
        "memcached",
    ]
    assert COMPOSE["networks"]["store"]["internal"] is True


@each_service
def test_what_it_mounts_exists_and_is_read_only(name: str) -> None:
    for host, inside, mode in mounts(SERVICES[name]):
        assert (ROOT / host).exists(), host
        assert inside.startswith("/")
        assert mode == "ro"


@each_service
def test_its_networks_secrets_and_dependencies_are_declared(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    for other, condition in service.get("depends_on", {}).items():
        assert "healthcheck" in SERVICES[other]
        assert condition == {"condition": "service_healthy"}


@each_of_ours
def test_its_command_runs_something_of_ours_that_exists(name: str) -> None:
    service = SERVICES[name]
    entry = service.get("entrypoint") or json.loads(steps(FINAL_STAGE, "ENTRYPOINT")[0])
    if entry[0] == "python":
        assert entry[1] == "-m"
        assert importlib.util.find_spec(entry[2]) is not None
    else:
        assert entry[0] == "authsvc"
        accepts(entry[1:], service["command"])


@each_of_ours
def test_its_health_check_is_python_that_compiles(name: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "python", "-c"]
    compile(test[3], name, "exec")


def test_the_secret_is_made_by_the_makefile_and_kept_out_of_the_repository() -> None:
    secret = COMPOSE["secrets"]["authsvc"]["file"].removeprefix("./")
    assert f"SECRET := {secret}\n" in (ROOT / "Makefile").read_text("utf-8")
    assert "*\n" in (ROOT / secret).with_name(".gitignore").read_text("utf-8")


# ---- what it mounts ----


def test_the_mounted_authsvc_config_passes_check() -> None:
    settings = config.load(str(ROOT / "deploy/compose/authsvc.yaml"), {})
    assert settings.memcached == ("memcached:11211",)
    assert {"X-Org-ID", "X-Subscription-Plan"} == set(settings.extract)  # the headers that nginx/ is made for


def test_the_config_is_mounted_where_the_image_looks_and_its_secret_where_compose_puts_it() -> None:
    [(_, inside, _)] = mounts(SERVICES["authsvc"])
    assert f"AUTHSVC_CONFIG={inside}" in DOCKERFILE
    given = yaml.safe_load((ROOT / "deploy/compose/authsvc.yaml").read_text("utf-8"))
    assert given["cache"]["secret_file"] == f"/run/secrets/{SERVICES['authsvc']['secrets'][0]}"


def test_its_upstream_file_is_what_authsvc_makes_for_it() -> None:
    made = nginx.render(nginx.DEFAULT_HEADERS, upstream="authsvc:8000")["authsvc-http.conf"]
    assert (ROOT / "deploy/compose/authsvc-http.conf").read_text("utf-8") == made


def test_the_mounted_nginx_config_passes_nginx(tmp_path: Path) -> None:
    """With loopback for the names that only Docker knows, and a folder for the paths that only the container has."""
    for host, inside, _ in mounts(SERVICES["nginx"]):
        copy(ROOT / host, tmp_path / Path(inside).relative_to("/etc/nginx"))
    main = tmp_path / "nginx.conf"
    main.write_text(main.read_text("utf-8").replace("/tmp/", f"{tmp_path}/"), "utf-8")
    try:
        program = find_nginx()
    except NotFound as missing:
        pytest.skip(str(missing))
    done = subprocess.run(
        [program, "-t", "-q", "-p", tmp_path, "-c", main], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        for file in source.glob("*.conf"):
            copy(file, target / file.name)
    else:
        target.parent.mkdir(exist_ok=True)
        target.write_text(re.sub(r"\bauthsvc:8000", "127.0.0.1:8000", source.read_text("utf-8")), "utf-8")


# ---- Dockerfile ----


def test_what_it_copies_exists_and_reaches_the_builder() -> None:
    let_in = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for step in steps(DOCKERFILE, "COPY"):
        if step.startswith("--from"):
            continue
        for source in step.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source.removeprefix('./')}" in let_in


def test_the_image_does_not_run_as_root() -> None:
    assert steps(FINAL_STAGE, "USER") == ["65532:65532"]
    assert SERVICES["authsvc"]["user"] == "65532:65532"


def test_the_final_stage_builds_and_installs_nothing() -> None:
    assert not re.search(r"\b(apt-get|gcc|pip[^\n]* install)\b", FINAL_STAGE)
    assert "pip uninstall" in FINAL_STAGE


def test_the_image_checks_its_own_health() -> None:
    [check] = steps(FINAL_STAGE, "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")


def test_the_image_starts_authsvc_where_nginx_reaches_it() -> None:
    entry = json.loads(steps(FINAL_STAGE, "ENTRYPOINT")[0])
    assert shlex.join(entry) == "authsvc serve --bind 0.0.0.0:8000"
    accepts(entry[1:], json.loads(steps(FINAL_STAGE, "CMD")[0]))


def accepts(command: list[str], more: list[str]) -> None:
    """The command line takes these arguments."""
    from authsvc.cli import main

    name, *arguments = [*command, *more]
    main.commands[name].make_context(name, arguments)
