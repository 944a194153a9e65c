"""The files for Prometheus and Grafana: each name in them is exported by a service that runs."""

import json
import re
import time
import urllib.request
from base64 import b64encode
from itertools import product
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.conftest import copy_template
from tests.installed_servers import free_port
from tests.repositories import REPOSITORY, commit_all
from tests.service import Development, Service, cache_of_uv

FILES = REPOSITORY / "docs" / "deploy" / "files" / "monitoring"
PAGE = (REPOSITORY / "docs" / "deploy" / "monitoring.md").read_text(encoding="utf-8")
SECONDS = 120
"""How long a service has, on a busy machine, until all of its metrics are there."""


def rules() -> list[dict[str, Any]]:
    """The alert rules of all groups."""
    document = yaml.safe_load((FILES / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, the headings of rows left out."""
    document = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every expression of the rules and of the dashboard; Grafana's variable has a value."""
    drawn = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [
        each.replace("$__rate_interval", "1m") for each in (*drawn, *(r["expr"] for r in rules()))
    ]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """What an expression reads.

    Raises:
        ValueError: when it is none of PromQL.
    """
    nodes: list[Any] = []
    promql_parser.walk(promql_parser.parse(expression), nodes.append)
    return [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]


def named() -> set[str]:
    """The metrics that are read."""
    return {str(each.name) for expression in expressions() for each in selectors(expression)}


class TestFiles:
    def test_each_rule_says_how_bad_it_is_and_what_to_do(self) -> None:
        for rule in rules():
            assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
            assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert len({rule["alert"] for rule in rules()}) == len(rules())
        assert f"{len(rules())} alert rules" in PAGE

    def test_commands_in_actions_are_there(self) -> None:
        kit = (REPOSITORY / "template" / "kit" / "kit.mk").read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z-]+):", kit, re.MULTILINE))
        for rule in rules():
            used = set(re.findall(r"make ([a-z-]+)", rule["annotations"]["action"]))
            assert used <= targets, rule["alert"]

    def test_panels_lie_side_by_side(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in panels():
            place = panel["gridPos"]
            columns = range(place["x"], place["x"] + place["w"])
            cells = {*product(columns, range(place["y"], place["y"] + place["h"]))}
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24, panel["title"]
            taken |= cells
        assert len({panel["id"] for panel in panels()}) == len(panels())

    def test_labels_of_legends_are_those_of_the_expression(self) -> None:
        for panel in panels():
            for target in panel["targets"]:
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
                    assert not kept or all(label in each for each in kept), target

    def test_all_that_a_service_measures_is_explained_and_watched(self) -> None:
        code = (REPOSITORY / "extensions_catalog" / "telemetry" / "stack_metrics.py").read_text()
        defined = {
            name.replace(".", "_")
            for name in re.findall(r'^    "([a-z.]+)": Metric', code, re.MULTILINE)
        }
        assert len(defined) > 20
        for name in defined:
            assert any(each.startswith(name) for each in named()), f"{name} is watched by nothing"
            short = name.rpartition("_")[2]
            assert re.search(rf"`{name}\w*`|`…_{short}\w*`", PAGE), f"{name} is not explained"


@pytest.mark.full
@pytest.mark.xdist_group("monitoring")
def test_a_running_service_has_each_name(template: Path, service: Service) -> None:
    """The API's metrics and Flower's, with worker, beat and outboxes."""
    project = copy_template(
        template, service.folder.parent / "monitored", extensions=["mail", "telemetry", "webhooks"]
    )
    commit_all(project, "Start")
    api, flower = free_port(), free_port()
    environment = {
        "API_PORT": str(api),
        "TELEMETRY_PROMETHEUS": "true",
        "FLOWER_PORT": str(flower),
        "FLOWER_USERNAME": "flower",
        "FLOWER_PASSWORD": "a long password",
    }
    monitored = Service(project, {"UV_CACHE_DIR": cache_of_uv(), **environment})
    monitored.make("setup")
    development = Development(monitored)
    try:
        development.wait_until_ready()
        # What comes within minutes: beat's task; what embedded servers lack: a limit.
        monitored.run(
            *("uv", "run", "python", "-c"),
            "from kit.process import start_local_services; start_local_services();"
            "from kit.redis import redis_client; redis_client().config_set('maxmemory', '100mb');"
            "from app.core.celery import celery_app; from kit.queue import heartbeat, ping;"
            "heartbeat.delay(); ping.delay('x')",
        )
        token = monitored.make("token", "name=prometheus", "scopes=metrics").split()[-1]
        login = b64encode(b"flower:a long password").decode()
        missing = named()
        deadline = time.monotonic() + SECONDS
        while missing and time.monotonic() < deadline:
            missing = (
                named()
                - {"up"}
                - exported(api, "/api/telemetry/metrics", f"Bearer {token}")
                - exported(flower, "/metrics", f"Basic {login}")
            )
            time.sleep(1)
        assert not missing
    finally:
        development.interrupt()


def exported(port: int, path: str, authorization: str) -> set[str]:
    """Names of the samples at a local address."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": authorization}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        text = answer.read().decode()
    return set(re.findall(r"^(\w+)(?=[{ ])", text, re.MULTILINE))
