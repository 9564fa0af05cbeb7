"""Recorded conversations played again."""

from dataclasses import replace

import gymnasium as gym
import pytest
from homeostasis_agents.llm import (
    ClientError,
    LanguageModelAgent,
    RecordedClient,
    Reply,
    ScriptedClient,
    Usage,
    recorded,
)
from homeostasis_agents.llm.factories import conversation_settings

import homeostasis_gym  # noqa: F401 (registers the environments)
from homeostasis_gym.agent import Task
from homeostasis_gym.collapse import score, summarize
from homeostasis_gym.errors import HomeostasisError, RecordError
from homeostasis_gym.experiments.table import print_table
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import write_trajectories
from homeostasis_gym.usage import usage

SETTINGS = {
    "history": "summary",
    "turns": 2,
    "example": True,
    "labels": "food|water",
    "constrained": True,
    "retries": 1,
}


def make(**kwargs):
    return gym.make("Homeostasis-MOBUO-v0", max_consumption=None, episode_length=6, **kwargs)


def talker(**settings):
    replies = iter(["1, 2", "eleven", "3, 4", "99, 1", "no"] * 20)
    client = ScriptedClient(
        lambda request: Reply(next(replies), "stop", Usage(7, 3, 2), (-0.5,)),
        name="once",
        constraints=frozenset({"grammar"}),
    )
    return LanguageModelAgent(Task.from_env(make()), client, conversation_settings(settings)[0])


@pytest.fixture
def run(tmp_path):
    agent = talker(**SETTINGS)
    record = agent.record
    runs = [rollout(make(), agent, seed=k, agent_name="x", episode=k, extra=record) for k in (3, 4)]
    write_trajectories(tmp_path / "x.parquet", runs)
    return tmp_path, runs


def test_a_run_plays_again_from_its_replies(run):
    folder, runs = run
    agent = recorded(Task.from_env(make()), str(folder))
    for one in reversed(runs):
        again = rollout(make(), agent, seed=one.header.seed)
        assert replace(again, header=one.header) == one
    assert agent.record["prompt_fingerprint"] == runs[0].header.extra["prompt_fingerprint"]
    with pytest.raises(ClientError, match="an episode of seed 5; it has the seeds 3, 4"):
        rollout(make(), agent, seed=5)


def test_what_was_not_said_then_is_told(run):
    folder, _ = run
    agent = recorded(Task.from_env(make(objectives=2, harvest_limit=9)), str(folder))
    with pytest.raises(ClientError, match=r"request 1 must say what the record holds, .* '.*10 units"):
        rollout(make(), agent, seed=3)


def test_names_are_told_as_they_are(run, capsys):
    """Between its colons, `recorded:m:` would hold an emoji."""
    _, runs = run
    summary, used = summarize(score(runs)), usage(runs)
    print_table("x", {"recorded:m": summary}, {"recorded:m": 1.0}, {"recorded:m": used})
    assert "recorded:m: tokens per episode: " in capsys.readouterr().out


def test_a_later_difference_names_its_request():
    agent = talker(example=True)
    first = rollout(make(), agent, seed=1)
    exchanges = [attempt for step in first.attempts for attempt in step]
    exchanges[0] = replace(exchanges[0], reply="2, 2")
    again = LanguageModelAgent(agent.task, RecordedClient(exchanges), agent.settings)
    with pytest.raises(ClientError, match="request 2 must say what the record holds, but differs at"):
        rollout(make(), again, seed=1)


def test_a_record_without_prompts_is_not_compared():
    agent = talker()
    first = rollout(make(), agent, seed=1)
    exchanges = [replace(attempt, prompt="") for step in first.attempts for attempt in step]
    again = rollout(make(), LanguageModelAgent(agent.task, RecordedClient(exchanges)), seed=1)
    assert again.actions.tolist() == first.actions.tolist()


def test_the_conversation_is_named_clearly(run, tmp_path):
    folder, runs = run
    task = Task.from_env(make())
    with pytest.raises(RecordError, match="must name a run folder with a conversation of 'y', got"):
        recorded(task, f"{folder}+agent:y")
    second = replace(runs[0], header=replace(runs[0].header, agent="llm:a/b+history:full"))
    write_trajectories(tmp_path / "y.parquet", [second])
    with pytest.raises(HomeostasisError, match=r"must name one agent, as .*\+agent:NAME, of llm:.*, x"):
        recorded(task, str(folder))
    assert recorded(task, f"{folder}+agent:llm:a/b+history:full").record["model"] == "once"
    twice = [replace(one, header=replace(one.header, agent="z")) for one in (runs[0], runs[0])]
    write_trajectories(tmp_path / "z.parquet", twice)
    with pytest.raises(HomeostasisError, match=r"one episode per seed, got the seeds \[3, 3\]"):
        recorded(task, f"{folder}+agent:z")
    bare = [replace(runs[0], header=replace(runs[0].header, agent="w", extra={}))]
    write_trajectories(tmp_path / "w.parquet", bare)
    with pytest.raises(HomeostasisError, match="does not hold them of 'w'"):
        recorded(task, f"{folder}+agent:w")
