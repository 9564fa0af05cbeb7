"""The command line: what it prints, what it writes, how it fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from homeostasis_gym.cli import main
from homeostasis_gym.experiments.compare_cli import EPISODES, SLOW_EPISODES, _agent


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "homeostasis_gym.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One small comparison that the tests below look at."""
    here = tmp_path_factory.mktemp("compare")
    answer = run(
        "compare",
        "--agents",
        "restore,base-stock,maximiser=3,random",
        "--episodes",
        4,
        "--out",
        "run",
        "--json",
        cwd=here,
    )
    assert answer.returncode == 0, answer.stderr
    return here, json.loads(answer.stdout)


def test_the_comparison_tells_collapse_from_balance(finished):
    _, content = finished
    agents = content["agents"]
    assert [agents[a]["episodes"] for a in ("restore", "base-stock", "maximiser", "random")] == [4, 4, 3, 4]
    assert agents["restore"]["flips"] == agents["base-stock"]["flips"] == 0
    assert agents["maximiser"]["flips"] == 3
    for episode in content["episodes"]:
        assert (episode["flip"] is True) == (episode["agent"] == "maximiser") or episode["agent"] == "random"
        if episode["agent"] == "restore":
            assert episode["runaway_index"] == 0


def test_score_and_report_work_from_the_records_alone(finished):
    here, content = finished
    again = run("score", "run", "--json", cwd=here)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["episodes"] == content["episodes"]
    page = here / "run" / "report.html"
    page.unlink()
    assert run("report", "run", cwd=here).returncode == 0
    html = page.read_text(encoding="utf-8")
    assert "maximiser" in html
    assert "<script src" not in html
    assert "https://" not in html.replace("http://www.w3.org", "")  # opens offline


def test_the_table_is_printed(finished):
    here, _ = finished
    answer = run("score", "run", cwd=here)
    for word in ("agent", "flip rate", "onset", "Runaway Index", "regret", "maximiser", "base-stock"):
        assert word in answer.stdout, answer.stdout
    assert "…" not in answer.stdout


@pytest.mark.parametrize("width", [80, 400])
def test_nothing_is_cut_off_on_a_narrow_terminal(finished, capsys, monkeypatch, width):
    here, content = finished
    monkeypatch.chdir(here)
    for name, value in (
        ("COLUMNS", str(width)),
        ("TTY_COMPATIBLE", "1"),
        ("NO_COLOR", "1"),
        ("TERM", "xterm"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes it a terminal
    assert main(["score", "run"]) == 0
    table = re.sub("\x1b[^m]*m", "", capsys.readouterr().out)
    assert "…" not in table and max(map(len, table.split("Intervals")[0].splitlines())) <= width
    for name, agent in content["agents"].items():
        for value in (
            name,
            f"{agent['runaway_index']:.3f}",
            f"{agent['regret']:.0f}",
            f"{agent['score']:.0f}",
        ):
            assert value in table, table


def test_lost_steps_are_a_column_of_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--agents", "probe_agents:Speechless", "--episodes", "2", "--steps", "6"]) == 0
    table = capsys.readouterr().out.splitlines()
    headings = re.split(r"\s{2,}", next(line for line in table if "flip rate" in line).strip())
    row = re.split(r"\s{2,}", next(line for line in table if "Speech" in line).strip())
    told = dict(zip(headings, row, strict=True))
    # Every second step: three attempts, and then nothing.
    assert told["invalid replies"] == "100.0 %" and told["lost steps"] == "6"
    below = "Invalid replies: share of all replies that were refused (probe_agents:Speechless 18 of 18)."
    assert below in table
    assert any(line.startswith("Lost steps: no valid reply after the last retry") for line in table)


def test_several_folders_are_shown_in_one_table(finished, tmp_path, capsys):
    here, content = finished
    episode = {"levels": [[100, 100], [101, 100]], "actions": [[1, 2]], "env_id": "Homeostasis-MOHoN-v0"}
    for agent in ("stranger", "maximiser"):
        with (tmp_path / "log.jsonl").open("a") as log:
            log.write(json.dumps({**episode, "agent": agent}) + "\n")
    imported = str(tmp_path / "imported")
    assert main(["import", str(tmp_path / "log.jsonl"), "--out", imported]) == 0
    capsys.readouterr()
    assert main(["score", str(here / "run"), imported, "--json"]) == 0
    agents = json.loads(capsys.readouterr().out)["agents"]
    both = {f"maximiser ({here / 'run'})", f"maximiser ({imported})"}
    assert set(agents) == set(content["agents"]) - {"maximiser"} | both | {"stranger"}
    assert agents["random"] == content["agents"]["random"]
    assert main(["score", str(here / "run"), imported]) == 0
    assert "stranger" in capsys.readouterr().out
    assert main(["compare", "--agents", "no-op=1", "--out", imported]) == 2
    assert "holds imported records; play into another folder" in capsys.readouterr().err


def test_the_same_command_again_continues(finished):
    here, content = finished
    answer = run(
        "compare",
        "--agents",
        "restore,base-stock,maximiser=3,random",
        "--episodes",
        4,
        "--out",
        "run",
        "--json",
        cwd=here,
    )
    assert json.loads(answer.stdout)["episodes"] == content["episodes"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["compare", "--agents", "nobody"], "`agent` must be one of"),
        (["compare", "--env", "Nowhere-v0"], "`env` must be a Gymnasium id"),
        (["compare", "--env", "no_such_package:Nowhere-v0"], "`env` must be a Gymnasium id"),
        (
            ["compare", "--agents", "restore", "--episodes", "0"],
            "`episodes` must be an integer of at least 1",
        ),
        (["compare", "--agents", "restore", "--max-cost", "-1"], "`max_cost` must be a finite number"),
        (["compare", "--agents", "restore", "--max-cost", "nan"], "`max_cost` must be a finite number"),
        (["compare", "--agents", "restore", "--steps", "0"], "`--steps` must be at least 1"),
        (["compare", "--agents", "restore,,random"], "got an empty name"),
        (["compare", "--agents", "sb3"], "as sb3:ARGUMENT"),
        (["compare", "--agents", "restore=x"], "`--agents` must give episodes as a whole number"),
        (["compare", "--agents", "restore", "--env-arg", "objectives=0"], "`objectives` must be an integer"),
        (["compare", "--agents", "restore", "--env-arg", "nonsense=1"], "nonsense"),
        (["compare", "--agents", "restore", "--seed", "-1"], "`seed` must be an integer"),
        (["compare", "--agents", "restore", "--out", "file"], "`out` must be a folder"),
        (["compare", "--agents", "restore", "--out", "file/below"], "`out` must be a folder"),
        (["score", "nothing"], "`run` must be a run folder"),
        (["report", "nothing"], "`run` must be a run folder"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(tmp_path, capsys, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("homeostasis-gym: error: ")
    assert captured.err.count("\n") == 1
    assert word in captured.err


def test_a_factory_says_that_it_is_slow(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name, episodes in [
        ("restore", EPISODES),
        ("smollm2", SLOW_EPISODES),
        ("smollm2:history:blind", SLOW_EPISODES),
        ("llm:openai/gpt-4o-mini", SLOW_EPISODES),
        ("probe_agents:Slow", EPISODES),
        ("probe_agents:ponderous", SLOW_EPISODES),
    ]:
        assert _agent(name, None).episodes == episodes
        assert _agent(name, 7).episodes == 7 and _agent(f"{name}=8", 7).episodes == 8


@pytest.mark.parametrize(
    ("package", "agent", "extra"),
    [
        ("xllamacpp", "smollm2", "local"),
        ("inspect_ai", "llm:openai/gpt-4o-mini", "llm"),
        ("openai", "llm:openai/gpt-4o-mini", "llm"),
    ],
)
def test_a_missing_extra_is_one_line_and_status_2(tmp_path, package, agent, extra):
    # A finder that knows nothing of the package stands in for an installation without the extra.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {package!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    answer = run("compare", "--agents", agent, cwd=tmp_path, PYTHONPATH=str(tmp_path), OPENAI_API_KEY="none")
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.startswith("homeostasis-gym: error: ") and package in answer.stderr
    assert answer.stderr.endswith(f"pip install 'homeostasis-gym[{extra}]'\n")
    assert answer.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_line_and_status_2(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    answer = run("compare", "--agents", "restore", "--out", locked / "run", cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
