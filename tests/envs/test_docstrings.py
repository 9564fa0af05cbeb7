"""An environment's docstring is its documentation: it must agree with the code."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from homeostasis_gym.registration import ENVIRONMENTS

HEADINGS = [
    "Description",
    "Objectives",
    "Observation Space",
    "Action Space",
    "Reward Space",
    "Starting State",
    "Dynamics and Noise",
    "Episode End",
    "Info",
    "Arguments",
    "Version History",
    "References",
]


def load(entry_point):
    module, name = entry_point.split(":")
    return getattr(__import__(module, fromlist=[name]), name)


def section(document, heading):
    return re.search(rf"## {heading}\n(.*?)(?=\n## |\Z)", document, re.DOTALL).group(1)


IDS = [env_id for env_id in ENVIRONMENTS if hasattr(load(ENVIRONMENTS[env_id][0]), "benchmark_class")]


@pytest.mark.parametrize("env_id", IDS)
def test_headings_arguments_and_versions(env_id):
    scalar, vector = map(load, ENVIRONMENTS[env_id])
    document = inspect.cleandoc(scalar.__doc__)
    assert re.findall(r"^## (.*)$", document, re.MULTILINE) == HEADINGS
    assert scalar.benchmark_class is vector.benchmark_class

    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", section(document, "Arguments"), re.MULTILINE)
    documented = {name: default.strip('"') for name, default in rows}
    own = inspect.signature(scalar.__init__).parameters
    expected = {f.name: f.default for f in fields(scalar.benchmark_class)} | {
        name: p.default for name, p in own.items() if p.kind is p.KEYWORD_ONLY
    }
    assert documented == {name: str(default) for name, default in expected.items()}

    versions = re.findall(r"`(Homeostasis-\w+-v\d+)`", section(document, "Version History"))
    assert env_id in versions

    table = section(document, "Reward Space")
    # Capitals in a documented name stand for any objective.
    patterns = [re.sub(r"[A-Z]+", ".+", n) for n in re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)]
    actual = scalar.benchmark_class().reward_names
    assert all(any(re.fullmatch(p, name) for p in patterns) for name in actual)
    assert all(any(re.fullmatch(p, name) for name in actual) for p in patterns)


def test_the_documentation_page_is_up_to_date():
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "scripts" / "make_environment_docs.py"), "--check"]
    done = subprocess.run(command, check=False)
    assert done.returncode == 0, "run python scripts/make_environment_docs.py"
