"""examples/line: the unit, the compose file, Prometheus's and Grafana's files, as far as this machine can check them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click import Command

from sise_ort.cli.watch import command
from sise_ort.line.line import Line
from sise_ort.line.metrics import LineMetrics

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "line"


def read_yaml(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def served(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of all metrics that a line serves."""
    metrics = LineMetrics()
    with Line(tiny_bundle, tmp_path_factory.mktemp("evidence"), provider="cpu") as line:
        metrics.add(line)
        names = {
            f"{family.name}{ending}"
            for family in metrics.registry.collect()
            for ending in {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(
                family.type, [""]
            )
        }
    return names


def named(text: str) -> set[str]:
    return set(re.findall(r"\bsise_ort_line_\w+", text))


def options(watch: Command) -> set[str]:
    return {name for p in watch.params for name in p.opts}


def test_dashboard_and_alerts_name_metrics_that_are_served(served: set[str]) -> None:
    dashboard = json.loads((FOLDER / "grafana" / "line.json").read_text(encoding="utf-8"))
    asked = named(json.dumps(dashboard)) | named((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
    assert asked and asked <= served
    page = (FOLDER.parents[1] / "docs" / "line.md").read_text(encoding="utf-8")
    assert {re.sub("_bucket$|_sum$|_count$", "", name) for name in served} == named(page)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_compose_file_keeps_its_promises() -> None:
    compose = read_yaml("compose.yaml")
    for name, service in compose["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert "no-new-privileges:true" in service["security_opt"], name
        for volume in service.get("volumes", []):
            place = volume.split(":")[0]
            if place.startswith("./") and place not in ("./incoming", "./steel.sise"):
                assert (FOLDER / place).is_file(), place
                assert volume.endswith(":ro"), volume
            elif not place.startswith("./"):
                assert place in compose["volumes"], place
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service.get("depends_on", {})) <= set(compose["services"])
    words = [w.split("=")[0] for w in compose["services"]["line"]["command"] if w.startswith("--")]
    assert set(words) <= options(command)
    assert (FOLDER / compose["services"]["line"]["build"]["context"]).resolve() == FOLDER.parents[1]


def test_the_compose_file_follows_its_schema() -> None:
    allowed = {
        "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "ports", "read_only", "restart",
        "secrets", "security_opt", "stop_grace_period", "tmpfs", "user", "volumes",
    }  # fmt: skip
    for service in read_yaml("compose.yaml")["services"].values():
        assert set(service) <= allowed
        assert ("image" in service) != ("build" in service)


def test_the_unit_is_one_of_systemd(tmp_path: Path) -> None:
    text = (FOLDER / "sise-ort-watch@.service").read_text(encoding="utf-8")
    started = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert started and set(re.findall(r"--[\w-]+", started[1])) <= options(command)
    assert "User=sise-ort" in text and "ProtectSystem=strict" in text and "NoNewPrivileges=yes" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # a program and a user that this machine has, in place of those of the line
    own = text.replace("/opt/sise-ort/bin/sise-ort", "/bin/true").replace("=sise-ort\n", "=root\n")
    unit = tmp_path / "sise-ort-watch@north.service"
    unit.write_text(own, encoding="utf-8")
    found = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    ours = [line for line in found.stderr.splitlines() if "sise-ort-watch" in line]
    assert ours == []


def test_prometheus_reads_its_files() -> None:
    prometheus, alerts = read_yaml("prometheus.yaml"), read_yaml("alerts.yaml")
    assert prometheus["rule_files"] == ["alerts.yaml"]
    assert prometheus["scrape_configs"][0]["static_configs"][0]["targets"] == ["line:9108"]
    assert all({"alert", "expr", "annotations"} <= set(rule) for rule in alerts["groups"][0]["rules"])
    promtool = shutil.which("promtool")
    if promtool is not None:
        subprocess.run([promtool, "check", "config", str(FOLDER / "prometheus.yaml")], check=True)
