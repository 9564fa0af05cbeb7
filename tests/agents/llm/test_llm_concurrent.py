import itertools
import time

import gymnasium as gym
import pytest

import homeostasis_gym
from homeostasis_gym.agent import Task
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.rollout import rollout

pytest.importorskip("inspect_ai", reason="needs the extra llm")
pytest.importorskip("openai", reason="needs the extra llm")

from homeostasis_agents.llm import LanguageModelAgent, ScriptedClient
from homeostasis_agents.llm.concurrent import play_at_once
from homeostasis_agents.llm.factories import llm

# Inspect 0.3.285 calls tenacity in a way that the newest one deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning")


def make_env(steps=6):
    return gym.make("Homeostasis-MOHoN-v0", max_consumption=None, episode_length=steps)


def own_words(body):
    """A reply that depends on the whole conversation: a mixed-up one would give other numbers."""
    text = "".join(message["content"] for message in body["messages"])
    return f"{len(text) % 7}, {sum(map(ord, text)) % 5}"


def test_episodes_at_once_are_conversations_of_their_own(server, monkeypatch):
    monkeypatch.setenv("LOOP_API_KEY", "k")
    server.default = lambda body: ("slow", 0.2, own_words(body))

    def agent(task):
        return llm(task, argument="openai-api/loop/m", base_url=server.url)

    start = time.monotonic()
    together = {t.header.seed: t for t in play_at_once(make_env, agent, range(1, 9), at_once=8)}
    seconds = time.monotonic() - start
    alone = {}
    for seed in (1, 5):
        env = make_env()
        alone[seed] = rollout(env, agent(Task.from_env(env)), seed=seed, episode=seed - 1)
    for seed, episode in alone.items():
        assert together[seed] == episode
    assert len(together) == 8
    assert seconds < 8 * 6 * 0.2, "eight episodes took as long as one after the other"


def test_a_slow_episode_does_not_hold_up_the_others():

    def agent(task):
        slow = not made
        made.append(task)

        def reply(request):
            time.sleep(0.2 if slow else 0.001)
            return "1, 2"

        return LanguageModelAgent(task, ScriptedClient(reply))

    made = []
    ended = [
        (episode.header.episode, time.monotonic())
        for episode in play_at_once(make_env, agent, range(4), at_once=2)
    ]
    assert ended[-1][0] == 0, "the slow one ends last"
    assert ended[-1][1] - ended[-2][1] > 0.5


def test_a_failure_comes_out_and_a_wrong_number_is_refused():
    def agent(task):
        return LanguageModelAgent(task, ScriptedClient([]))

    with pytest.raises(HomeostasisError, match="the script holds 0 replies"):
        list(play_at_once(make_env, agent, [1, 2], at_once=2))
    with pytest.raises(homeostasis_gym.errors.HomeostasisError, match="`at_once` must be at least 1"):
        list(play_at_once(make_env, agent, [1], at_once=0))


@pytest.mark.model
def test_as_many_slots_as_episodes_keep_every_prefix_cache(monkeypatch):
    from homeostasis_agents.llm import embedded

    try:
        embedded.runtime()
        embedded.weights()
    except homeostasis_gym.errors.MissingExtraError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("LOOP_API_KEY", "none")
    server = embedded.start_server(slots=2)

    def agent(task):
        # Each episode has instructions of its own, so that the server can tell the conversations apart.
        made.append(task)
        labels = ("A", "B") if len(made) == 1 else ("salt", "sugar")
        return llm(
            task,
            argument="openai-api/loop/smollm2",
            base_url=f"{server.listening_address}/v1",
            backend="llama.cpp",
            example=True,
            labels=labels,
        )

    made = []
    for episode in play_at_once(lambda: make_env(5), agent, [1, 2], at_once=2):
        cached = [step[0].cached_tokens for step in episode.attempts]
        assert cached[0] == 0 and all(b > a for a, b in itertools.pairwise(cached[1:]))
        assert cached[1] > 100
