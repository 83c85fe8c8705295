"""The Grafana dashboard asks for metrics that `mematlas serve` has, with labels that they have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from prometheus_client.parser import text_string_to_metric_families

import synthetic_recording
from mematlas.serve.metrics import Metrics
from mematlas.serve.state import ServedRecording

DASHBOARD = Path(__file__).parents[3] / "examples/grafana/mematlas.json"
NAME = re.compile(r"\bmematlas_[a-z_]+")
OF_SCRAPE = {"job", "instance"}  # Prometheus adds them


def expressions() -> list[str]:
    """Return the queries of all panels, with the variables of the dashboard filled in."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [each.replace("$job", ".*").replace("$instance", ".*") for each in found]


def served(folder: Path) -> dict[str, set[str]]:
    """Return the metrics of a recording with all kinds of figures: their names, and the names of their labels."""
    synthetic_recording.write(folder / "a.atlas")
    text = Metrics(ServedRecording(str(folder / "a.atlas"))).render("")[0].decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_metric_exists(tmp_path: Path) -> None:
    """Names and labels of the queries, of the legends and of the variables."""
    metrics = served(tmp_path)
    assert len(expressions()) > 15
    for each in expressions():
        names = NAME.findall(each)
        assert names, each
        assert set(names) <= metrics.keys(), each
        asked = set(re.findall(r"(\w+)(?:=|!=|=~)\"", each))
        asked |= {name for part in re.findall(r"by \(([^)]*)\)", each) for name in part.split(", ")}
        for name in names:
            assert asked <= metrics[name] | OF_SCRAPE, each
    document = json.loads(DASHBOARD.read_text("utf-8"))
    for variable in document["templating"]["list"][1:]:
        assert set(NAME.findall(variable["query"])) <= metrics.keys()
    legends = {
        (name, target["expr"])
        for panel in document["panels"]
        for target in panel["targets"]
        for name in re.findall(r"{{(\w+)}}", target["legendFormat"])
    }
    for name, expression in legends:
        assert name in metrics[NAME.findall(expression)[0]] | OF_SCRAPE, expression


def test_all_metrics_of_memory_are_shown(tmp_path: Path) -> None:
    """A new metric has a panel; facts of the recording itself need none."""
    shown = {name for each in expressions() for name in NAME.findall(each)}
    without = {"mematlas_info", "mematlas_recording_complete", "mematlas_sampling_bytes"}
    without |= {"mematlas_figures_seconds", "mematlas_account_seconds"}
    assert {name for name in served(tmp_path) if not name.endswith("_created")} - without == shown


def test_prometheus_parses_the_queries(tmp_path: Path) -> None:
    """Each query is an expression, by Prometheus's own parser."""
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: apt-get install prometheus")
    rules = [
        {"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap() -> None:
    """Each cell of the grid of 24 columns has one panel, and panels have numbers of their own."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        mine = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & mine, panel["title"]
        assert max(x for x, _ in mine) < 24
        cells |= mine
    assert len({panel["id"] for panel in panels}) == len(panels)
