"""`--max-cost` holds for all processes and all starts of a command, and nothing is paid twice."""

import json

import pytest

from homeostasis_gym.cli import main
from homeostasis_gym.errors import BudgetError, HomeostasisError, RecordError
from homeostasis_gym.experiments import AgentSpec, Experiment, RunFolder, run_experiment
from homeostasis_gym.experiments.payments import Payments, paid_so_far

pytest.importorskip("inspect_ai", reason="needs the extra llm")
pytest.importorskip("openai", reason="needs the extra llm")

MODEL = "openai-api/loop/m"
AGENT = f"llm:{MODEL}"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, server):
    """An empty folder, a model on loopback, and a price file by which a reply costs a dollar."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOP_API_KEY", "none")
    monkeypatch.setenv("LOOP_BASE_URL", server.url)
    # The server counts 10 uncached prompt tokens a request.
    prices = {MODEL: {"input": 100_000, "cached": 0, "output": 0}}
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    return tmp_path


def compare(*arguments, agents=f"base-stock=2,{AGENT}=3"):
    return main(
        ["compare", "--agents", agents, "--steps", "4", "--out", "run", "--prices", "prices.json", *arguments]
    )


def experiment(episodes=4):
    return Experiment(
        "Homeostasis-MOHoN-v0", (AgentSpec(AGENT, episodes),), {"max_consumption": None, "episode_length": 4}
    )


def test_it_stops_keeps_what_is_finished_and_goes_on_with_more(server, here, capsys):
    assert compare("--workers", "1", "--max-cost", "6") == 3
    said = capsys.readouterr()
    assert "3 episodes are expected to take" in said.err and "$" in said.err
    assert (
        "stopped: $6.0000 of the allowed $6.0000 (max-cost) is spent, at the prices of prices.json"
        in said.err
    )
    assert "Traceback" not in said.err and "base-stock" in said.out and (here / "run/report.html").exists()
    folder = RunFolder(here / "run")
    assert (
        len(server.requests) == 6
        and folder.finished(AGENT) == {0}
        and len(folder.finished("base-stock")) == 2
    )
    # The same limit is spent already, by the episode that is finished and by the one that is not.
    assert paid_so_far(folder, here / "prices.json") == pytest.approx(6)
    assert compare("--workers", "1", "--max-cost", "6") == 3
    assert len(server.requests) == 6
    assert compare("--workers", "1", "--max-cost", "12.5") == 0
    assert len(server.requests) == 12
    assert paid_so_far(folder, here / "prices.json") == pytest.approx(12)
    said = capsys.readouterr()
    spent = "done: this run folder has spent $12.0000 of the allowed $12.5000, at the prices of prices.json"
    assert spent in said.err
    used = (
        f"{AGENT}: tokens per episode: 40 read, 120 from a prefix cache (75.0 %), 16 written; "
        "$4.0000 per episode, $12.0000 together, at the prices of prices.json."
    )
    assert used in said.out.splitlines()
    page = (here / "run/report.html").read_text(encoding="utf-8")
    cells = ("40", "120", "75.0 %", "16", "$4.0000", "$12.0000")
    assert "".join(f"<td>{cell}</td>" for cell in (AGENT, *cells)) in page
    whole = RunFolder(here / "whole")
    run_experiment(experiment(3), whole, workers=1)
    assert folder.trajectories(AGENT) == whole.trajectories(AGENT)


def test_a_run_that_is_scored_later_tells_what_it_used(here, capsys):
    assert compare("--workers", "1") == 0
    capsys.readouterr()
    assert main(["score", "run", "--json", "--prices", "prices.json"]) == 0
    agents = json.loads(capsys.readouterr().out)["agents"]
    assert agents["base-stock"]["usage"] is None and agents["base-stock"]["invalid_rate"] is None
    assert agents[AGENT]["invalid_rate"] == 0 and agents[AGENT]["replies"] == 12
    assert agents[AGENT]["usage"] == {
        "episodes": 3,
        "exchanges": 12,
        "uncounted_exchanges": 0,
        "prompt_tokens_per_episode": 40,
        "cached_tokens_per_episode": 120,
        "cached_share": 0.75,
        "completion_tokens_per_episode": 16,
        "cost_per_episode": 4,
        "cost": 12,
        "cost_note": "at the prices of prices.json",
    }
    assert main(["score", "run"]) == 0
    assert "16 written; no price is known." in capsys.readouterr().out
    assert main(["score", "run", "--prices", "nowhere.json"]) == 2
    assert "`--prices` must be a price file, but nowhere.json does not exist" in capsys.readouterr().err


def test_it_is_one_limit_for_all_processes(server, here):
    with pytest.raises(BudgetError, match="of the allowed"):
        run_experiment(
            experiment(), RunFolder(here / "run"), workers=2, max_cost=5, prices=here / "prices.json"
        )
    # What one process is in the middle of when the other spends the last dollar is paid as well.
    assert 5 <= len(server.requests) <= 6


def test_what_cannot_be_known_is_told_before_the_first_request(server, here, capsys):
    (here / "prices.json").write_text('{"another/model": {"input": 1, "cached": 1, "output": 1}}')
    assert compare("--max-cost", "6") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"`max_cost` needs a price of {MODEL}" in said and "--prices" in said
    assert compare("--max-cost", "6", agents=f"{AGENT}+max_cost:2") == 2
    assert compare(agents=f"{AGENT}+max_cost:2+prices:prices.json") == 2
    assert "`max_cost` must be given for the whole command, as --max-cost" in capsys.readouterr().err
    assert not server.requests


def test_a_provider_that_counts_nothing_cannot_be_limited(server, here, capsys):
    silent = {
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "1, 2"}}
        ]
    }
    server.default = (
        "raw",
        json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "m", **silent}).encode(),
    )
    assert compare("--workers", "1", "--max-cost", "6") == 3
    assert len(server.requests) == 1 and "reports no token counts" in capsys.readouterr().err


def test_the_estimate_is_told_before_the_first_request(server, here):
    told = []
    run_experiment(
        experiment(1),
        RunFolder(here / "run"),
        workers=1,
        say=lambda text: told.append((text, len(server.requests))),
    )
    assert len(told) == 1 and told[0][1] == 0 and len(server.requests) == 4
    assert told[0][0].startswith(f"{AGENT}: an episode is expected to take")
    assert "no price is known for the model" in told[0][0]


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf")])
def test_a_limit_is_an_amount_of_dollars(here, limit):
    with pytest.raises(HomeostasisError, match=f"`max_cost` must be a finite number .* got {limit}"):
        run_experiment(experiment(), RunFolder(here / "run"), max_cost=limit)


def test_a_reply_that_a_kill_cut_off_is_taken_away(here):
    from homeostasis_gym.agent import Attempt

    folder = RunFolder(here / "run")
    file = folder.paid_file(AGENT, 3)
    payments = Payments(folder, AGENT)
    payments.begin(3)
    payments.pay("a", Attempt("", "1, 2", prompt_tokens=5))
    with file.open("a") as stream:
        stream.write('{"question": "b", "prom')
    payments.begin(3)
    assert payments.recall("a").reply == "1, 2" and payments.recall("b") is None
    payments.pay("b", Attempt("", "3, 4"))
    payments.begin(3)
    assert payments.recall("b").reply == "3, 4" and list(folder.paid(AGENT)) == [3]
    file.write_text("{}\n")
    with pytest.raises(RecordError, match="is no file of paid replies"):
        payments.begin(3)
