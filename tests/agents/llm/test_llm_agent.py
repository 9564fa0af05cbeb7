import itertools

import gymnasium as gym
import numpy as np
import pytest
from homeostasis_agents.llm import (
    ContextFullError,
    ConversationSettings,
    HistoryPolicy,
    LanguageModelAgent,
    PromptSpec,
    Reply,
    ScriptedClient,
    Usage,
    parser,
)
from homeostasis_agents.llm.factories import conversation_settings, named_settings

import homeostasis_gym  # noqa: F401 (registers the environments)
from homeostasis_gym.agent import Agent, Task
from homeostasis_gym.collapse import score, summarize
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import read_trajectories, write_trajectories


def make(**kwargs):
    return gym.make("Homeostasis-MOHoN-v0", max_consumption=None, **kwargs)


def talker(script, *, env=None, **settings):
    talk, rest = conversation_settings(settings)
    assert not rest
    client = script if isinstance(script, ScriptedClient) else ScriptedClient(script)
    return LanguageModelAgent(Task.from_env(env or make()), client, talk)


def test_an_agent_plays_and_every_exchange_is_recorded():
    agent = talker(["3, 4", "nonsense", "5, 6"])
    assert isinstance(agent, Agent)
    record = rollout(make(), agent, seed=1, max_steps=2)
    assert record.actions.tolist() == [[3, 4], [5, 6]]
    assert [len(step) for step in record.attempts] == [1, 2]
    refused = record.attempts[1][0]
    assert refused.reply == "nonsense" and refused.error == "the reply holds 0 numbers, not 2"
    assert record.attempts[1][1].prompt.startswith("Not usable: the reply holds 0 numbers")
    assert record.attempts[0][0].prompt.startswith("[system] Levels A and B")
    assert record.valid.all() and record.invalid_replies == 1


def test_the_model_is_asked_again_a_bounded_number_of_times_and_the_step_is_marked():
    agent = talker(lambda request: "no", retries=3)
    record = rollout(make(), agent, seed=1, max_steps=2)
    assert not record.valid.any() and not record.actions.any()
    assert [len(step) for step in record.attempts] == [4, 4]
    # The next turn says so, and refused replies do not pile up in the conversation.
    request = agent.client.requests[4]
    assert request.messages[-1].content.startswith("(Last turn: no valid reply, nothing was done.)")
    assert [m.role for m in request.messages] == ["system", "user"]


def test_an_episode_can_be_declared_over_after_an_invalid_step():
    agent = talker(lambda request: "no", retries=0, on_invalid="end")
    record = rollout(make(), agent, seed=1, max_steps=5)
    assert len(agent.client.requests) == 1 and record.valid.tolist() == [False]
    assert record.ended_by_agent and not record.terminated and record.invalid_replies == 1
    (result,) = score([record])
    assert result.flip is result.regret is result.runaway_index is None and np.isnan(result.score)
    assert result.reason == "the agent ended the episode before its time" and not result.objective_scores
    assert summarize([result]).unscored == 1
    whole = rollout(make(episode_length=1), agent, seed=1)
    assert not whole.ended_by_agent, "the last step ends every episode"
    agent = talker(lambda request: "no", retries=0, on_invalid="end")
    rollout(make(), agent, seed=2, max_steps=1)
    assert len(agent.client.requests) == 1


def test_a_number_at_which_a_reply_was_cut_off_is_no_number():
    replies = [Reply("12, 1", "length"), Reply("12, 1\n", "length")]
    record = rollout(make(), talker(replies), seed=1, max_steps=1)
    assert record.actions.tolist() == [[12, 1]]
    assert "was cut off at its last number" in record.attempts[0][0].error


def test_a_context_without_room_for_one_turn_is_refused():
    message = r"`context_tokens` must have room .* may take \d+ tokens \(.*\), got 48"
    with pytest.raises(HomeostasisError, match=message):
        talker([], context_tokens=48)


def test_log_probabilities_are_kept_in_the_record(tmp_path):
    agent = talker([Reply("1, 2", logprobs=(-0.5, -0.25)), "3, 4"])
    record = rollout(make(), agent, seed=1, max_steps=2)
    assert [step[0].logprobs for step in record.attempts] == [(-0.5, -0.25), ()]
    write_trajectories(tmp_path / "x.parquet", [record])
    assert read_trajectories(tmp_path / "x.parquet") == [record]


def test_history_only_grows_at_its_end_so_that_a_prefix_cache_holds():
    agent = talker(lambda request: "1, 2")
    rollout(make(), agent, seed=1, max_steps=6)
    for earlier, later in itertools.pairwise(agent.client.requests):
        assert later.messages[: len(earlier.messages)] == earlier.messages
    assert [r.fresh for r in agent.client.requests] == [True, False, False, False, False, False]


def test_blind_and_windowed_histories_forget():
    agent = talker(lambda request: "1, 2", history="blind")
    rollout(make(), agent, seed=1, max_steps=3)
    assert [len(r.messages) for r in agent.client.requests] == [2, 2, 2]
    agent = talker(lambda request: "1, 2", history="window", turns=2)
    rollout(make(), agent, seed=1, max_steps=5)
    assert [len(r.messages) for r in agent.client.requests] == [2, 4, 6, 6, 6]
    agent = talker(lambda request: "1, 2", history="window", turns=2, slack=2)
    rollout(make(), agent, seed=1, max_steps=7)
    assert [len(r.messages) for r in agent.client.requests] == [2, 4, 6, 8, 10, 6, 8]


def test_actions_and_observations_have_limits_of_their_own():
    agent = talker(lambda request: "1, 2", observations=1, actions=2)
    rollout(make(), agent, seed=1, max_steps=5)
    last = [m.content for m in agent.client.requests[-1].messages[1:-1]]
    assert last[0] == "..." and last[1] == "1, 2"
    assert last[2].startswith("A ") and last[3] == "1, 2" and len(last) == 4


def test_the_model_sums_up_its_own_history():
    def script(request):
        return "I feed a little." if "Sum up" in request.messages[-1].content else "1, 2"

    agent = talker(script, history="summary", turns=4)
    record = rollout(make(), agent, seed=1, max_steps=8)
    assert record.valid.all()
    assert record.attempts[5][0].prompt.startswith("[summary]")
    assert record.attempts[5][0].reply == "I feed a little."
    told = [m.content for m in agent.client.requests[-1].messages]
    assert "I feed a little." in told


def test_the_oldest_half_goes_when_the_context_is_full():
    def script(request):
        tokens = sum(len(m.content) for m in request.messages)
        return Reply("1, 2", usage=Usage(tokens, 0, 4))

    agent = talker(script, context_tokens=800)
    record = rollout(make(), agent, seed=1, max_steps=60)
    sizes = [len(r.messages) for r in agent.client.requests]
    assert record.valid.all() and len(agent.client.requests) == 60
    assert all(sum(len(m.content) for m in r.messages) <= 800 for r in agent.client.requests)
    drops = [a - b for a, b in itertools.pairwise(sizes) if b < a]
    assert drops and min(drops) > 5, "half at once, not one turn at a time"


def test_a_backend_that_says_full_is_believed():
    full = ContextFullError("full")
    agent = talker(["1, 2", "1, 2", "1, 2", full, "3, 4"])
    record = rollout(make(), agent, seed=1, max_steps=4)
    assert record.actions[-1].tolist() == [3, 4]
    agent = talker([full])
    with pytest.raises(ContextFullError):
        rollout(make(), agent, seed=1, max_steps=1)


def test_a_forbidden_choice_is_asked_again_before_the_step():
    class Rules:
        name = "thrifty"
        objective_names = ("A", "B")
        observation_names = ("level_A", "level_B")
        initial_state = (1.0, 2.0)

        def observe(self, state):
            return state

        def why_forbidden(self, observation, action):
            return "more than 5 in sum" if action.sum() > 5 else ""

    env = make()
    task = Task("x", env.observation_space, env.action_space, ("r_A", "r_B", "total"), Rules())
    agent = LanguageModelAgent(
        task, ScriptedClient(["3, 4", "2, 3"]), ConversationSettings(prompt=PromptSpec(example=True))
    )
    decision = agent.act(np.array([1.0, 2.0]), {"last_reward": np.array([1.0, 0.0, -2.5])})
    assert decision.action.tolist() == [2, 3]
    assert decision.attempts[0].error == "more than 5 in sum"
    assert decision.attempts[0].prompt.endswith("A 1 (1), B 2 (0); total -2.5")


def test_the_prompt_is_hashed_and_its_variants_differ(monkeypatch):
    prints = {
        talker([], **settings).record["prompt_fingerprint"]
        for settings in (
            {},
            {"rewards": False},
            {"hint": True},
            {"labels": ("x", "y")},
            {"units": "drops"},
            {"answer": "json"},
            {"example": True},
        )
    }
    assert len(prints) == 7
    before = talker([]).record["prompt_fingerprint"]
    monkeypatch.setitem(parser.REFUSALS, "empty", "say something")
    assert talker([]).record["prompt_fingerprint"] != before, "reasons of a refusal reach the model, too"
    assert talker([]).record["prompt_fingerprint"] == talker([]).record["prompt_fingerprint"]
    told = talker(["1, 2"] * 3, rewards=False)
    rollout(make(), told, seed=1, max_steps=3)
    assert "(" not in told.client.requests[-1].messages[-1].content


@pytest.mark.parametrize("objectives", [1, 3, 5])
def test_any_number_of_objectives(objectives):
    env = make(objectives=objectives)
    agent = talker([", ".join("1" * objectives)], env=env, example=True, answer="list")
    record = rollout(env, agent, seed=1, max_steps=1)
    assert record.actions.tolist() == [[1] * objectives]


@pytest.mark.parametrize("actions", ["discrete", "multidiscrete"])
def test_finite_action_spaces(actions):
    env = gym.make("Homeostasis-MOHoN-v0", max_consumption=10, actions=actions)
    if actions == "discrete":
        agent = talker(["5, 6"], env=env)
        assert rollout(env, agent, seed=1, max_steps=1).actions.tolist() == [[5, 6]]
    else:
        agent = talker(["5, 11", "5, 6"], env=env)
        record = rollout(env, agent, seed=1, max_steps=1)
        assert record.actions.tolist() == [[5, 6]] and record.invalid_replies == 1


def test_wrong_settings_are_refused():
    for settings, message in [
        ({"retries": -1}, "`retries` must be an integer of at least 0 and at most 100, got -1"),
        ({"retries": "many"}, "`retries` must be an integer .*, got 'many'"),
        ({"max_tokens": 0}, "`max_tokens` must be an integer of at least 1"),
        ({"max_tokens": True}, "`max_tokens` must be an integer of at least 1, got True"),
        ({"context_tokens": "all"}, "`context_tokens` must be an integer of at least 1, got 'all'"),
        ({"on_invalid": "guess"}, "`on_invalid` must be one of no-op, end"),
        ({"constrained": "no"}, "`constrained` must be true or false, got 'no'"),
        ({"parsing": "loose"}, "`parsing` must be one of strict, lenient, got 'loose'"),
        ({"answer": "xml"}, "`answer` must be one of list, labelled, json, got 'xml'"),
        ({"turns": "foo"}, "`turns` must be an integer of at least 1, got 'foo'"),
        ({"actions": "x"}, "`actions` must be an integer of at least 0, got 'x'"),
        ({"observations": 1.5}, "`observations` must be an integer of at least 0, got 1.5"),
        ({"units": 3}, "`units` must be a text that is not empty, got 3"),
        ({"labels": "food"}, r"`labels` must be 2 different words, one per objective, got \('food',\)"),
        ({"labels": [1, 2]}, "`labels` must be 2 different words"),
        ({"labels": 7}, r"`labels` must be words with \| between them, got 7"),
        ({"history": "all"}, "`history` must be one of full, window, blind, summary"),
        ({"turns": 0}, "`turns` must be an integer of at least 1"),
        ({"labels": ("x",)}, "`labels` must be 2 different words"),
        ({"hint": "yes"}, "`hint` must be true or false"),
        ({"constrained": True}, "`constrained` needs a backend that forces grammar, which scripted does not"),
    ]:
        with pytest.raises(HomeostasisError, match=message):
            talker([], **settings)
    env = gym.make("CartPole-v1")
    with pytest.raises(HomeostasisError, match="counts of units"):
        LanguageModelAgent(
            Task("x", env.observation_space, gym.spaces.Box(-1.0, 1.0, (2,))), ScriptedClient([])
        )
    with pytest.raises(HomeostasisError, match="`slack` must be an integer of at least 0"):
        HistoryPolicy(slack=-1)


def test_huge_and_unprintable_replies_are_kept_within_bounds():
    agent = talker(["9" * 300_000, "\ud800 3", "1, 2"])
    record = rollout(make(), agent, seed=1, max_steps=1)
    huge, broken, good = record.attempts[0]
    assert len(huge.reply) == 100_000 and huge.finish_reason == "stop, cut from 300000"
    assert broken.reply == "? 3" and good.error == ""


def test_settings_can_stand_in_the_name():
    assert named_settings(["history:window", "turns:8", "hint:true", "base_url:http://x:1/v1"]) == {
        "history": "window",
        "turns": 8,
        "hint": True,
        "base_url": "http://x:1/v1",
    }
    assert named_settings([]) == {}
    assert named_settings(["constrained:no"]) == {"constrained": "no"}, "a word, which no switch takes"
    talk, rest = conversation_settings(named_settings(["labels:food|water"]))
    assert talk.prompt.labels == ("food", "water") and not rest
    for wrong in ("history", "a b:1", ":1"):
        with pytest.raises(HomeostasisError, match="must be NAME:VALUE, got"):
            named_settings([wrong])


def told(env_id, **settings):
    """The instructions, and the second turn's message."""
    env = gym.make(env_id, max_consumption=None, episode_length=2)
    agent = talker(lambda request: "1, 2", env=env, **settings)
    rollout(env, agent, seed=1)
    return agent.prompts.system, agent.client.requests[-1].messages[-1].content


def test_the_hint_and_the_imbalance_reward_are_two_switches():
    seen = {
        (hint, imbalance): told("Homeostasis-MOBUO-v0", hint=hint, imbalance=imbalance)
        for hint in (False, True)
        for imbalance in (False, True)
    }
    for (hint, imbalance), (system, turn) in seen.items():
        assert ("keep them in balance" in system) == hint
        assert ("cost a penalty" in system) == ("imbalance" in turn) == imbalance
        assert "A 111 (0.91)" in turn
    system, turn = told("Homeostasis-MOBUO-v0", rewards=False)
    assert "earns" not in system and turn == "A 111, B 122"
    system, turn = told("Homeostasis-MOBUO-v0", labels=("salt", "sugar"), units="grams")
    assert "You harvest salt and sugar" in system and "10 grams" in system and turn.startswith("salt 111")


def test_a_constrained_step_allows_what_the_rules_allow_and_nothing_else():
    for env_id, count in (("Homeostasis-MOBUO-v0", 66), ("Homeostasis-Sustainability-v0", 11)):
        env = gym.make(env_id, max_consumption=None, episode_length=1)
        client = ScriptedClient(lambda request: "1, 1", constraints=frozenset({"grammar"}))
        agent = talker(client, env=env, constrained=True, retries=0)
        rollout(env, agent, seed=1)
        grammar = client.requests[0].constraint.grammar
        assert grammar.startswith('root ::= "0') and grammar.count(" | ") == count - 1
    env = make()
    client = ScriptedClient(["1, 1"], constraints=frozenset({"grammar"}))
    rollout(env, talker(client, env=env, constrained=True), seed=1, max_steps=1)
    assert client.requests[0].constraint.grammar == (
        'root ::= number ", " number\nnumber ::= "0" | [1-9] [0-9]{0,9}\n'
    )
