import gymnasium as gym
import pytest
from homeostasis_agents.llm import LanguageModelAgent, ScriptedClient
from homeostasis_agents.llm.factories import conversation_settings

import homeostasis_gym
from homeostasis_gym.agent import Task
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.multiagent import value_graph_v0
from homeostasis_gym.multiagent.play import play
from homeostasis_gym.rollout import rollout


def agent(task, reply="1, 1, 2", **settings):
    talk, _ = conversation_settings({"example": True, **settings})
    return LanguageModelAgent(task, ScriptedClient(lambda request: reply), talk)


def test_the_helper_is_told_whom_it_may_help():
    env = gym.make("Homeostasis-ValueGraph-v0", episode_length=4)
    helper = agent(Task.from_env(env))
    record = rollout(env, helper, seed=1)
    assert record.valid.all() and record.actions.tolist() == [[1, 1, 2]] * 4
    told = [request.messages[-1].content for request in helper.client.requests]
    assert told[0].endswith("turn nobody")
    named = ["ALICE" if turn == 0 else "BOB" for turn in record.noise[:3, 0]]
    assert [text.split("turn ")[1] for text in told[1:]] == named
    assert "ALICE Power 1 (" not in told[0] and "ALICE Power " in told[1] and "(" in told[1]
    assert "near 10" in helper.prompts.system


def test_more_than_may_be_given_is_asked_again():
    env = gym.make("Homeostasis-ValueGraph-v0", episode_length=1)
    record = rollout(env, agent(Task.from_env(env), "5, 5, 5", retries=1), seed=1)
    assert not record.valid.any() and "at most 10 units" in record.attempts[0][0].error


def test_a_seat_is_asked_only_on_its_turn():
    env = value_graph_v0.parallel_env(episode_length=12)
    alice = agent(env.task("ALICE"))
    bob = agent(env.task("BOB"), "0, 0, 1")
    plays = play(env, {"ALICE": alice, "BOB": bob}, seed=3)
    for name, one in (("ALICE", alice), ("BOB", bob)):
        record = plays[name]
        assert record.valid.all()
        assert len(one.client.requests) == sum(bool(d.attempts) for d in record.decisions)
        assert len(one.client.requests) == record.counted.sum() > 0
        assert f"You are {name}." in one.prompts.system
        assert one.client.requests[-1].messages[-1].content.startswith(f"{name} Power ")


def test_a_wrong_observation_is_refused():
    env = gym.make("Homeostasis-ValueGraph-v0", episode_length=1)
    with pytest.raises(HomeostasisError, match="`observation` must have 20 components, got 2"):
        agent(Task.from_env(env)).act([1.0, 2.0], {})
    assert homeostasis_gym.__version__
