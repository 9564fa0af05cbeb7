import json

import gymnasium as gym
import pytest
from homeostasis_agents.llm import ConversationSettings, LanguageModelAgent, Reply, ScriptedClient, Usage
from homeostasis_agents.llm.history import HistoryPolicy
from homeostasis_agents.llm.metering import BudgetError, Meter, MeteredClient, Price, estimate, read_prices

from homeostasis_gym.agent import Attempt, Task
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.rollout import rollout

PRICE = Price(1.0, 0.1, 10.0)


def make_env(steps=10):
    return gym.make("Homeostasis-MOHoN-v0", max_consumption=None, episode_length=steps)


def test_tokens_and_money_are_counted_and_the_budget_stops_between_requests():
    client = ScriptedClient(lambda request: Reply("1, 2", usage=Usage(100_000, 900_000, 10_000)))
    meter = Meter(PRICE, max_cost=0.85)
    env = make_env()
    agent = LanguageModelAgent(Task.from_env(env), MeteredClient(client, meter))
    with pytest.raises(BudgetError, match=r"stopped: \$0\.8700 of the allowed \$0\.8500 \(max_cost\)"):
        rollout(env, agent, seed=1)
    assert len(client.requests) == 3  # 0.1 + 0.09 + 0.1 dollars each
    assert (meter.uncached, meter.cached, meter.completion, meter.requests) == (300_000, 2_700_000, 30_000, 3)


def test_a_limit_needs_a_price_and_counts():
    with pytest.raises(HomeostasisError, match="`max_cost` needs a price"):
        Meter(None, 1.0)
    with pytest.raises(HomeostasisError, match="`max_cost` must be at least 0"):
        Meter(PRICE, -1.0)
    silent = MeteredClient(ScriptedClient(["1, 2"]), Meter(PRICE, 1.0))
    env = make_env()
    with pytest.raises(BudgetError, match="reports no token counts"):
        rollout(env, LanguageModelAgent(Task.from_env(env), silent), seed=1)


def test_prices_come_from_a_file_that_can_be_edited(tmp_path):
    assert read_prices()["SmolLM2-135M-Instruct.Q4_1"] == Price(0.0, 0.0, 0.0)
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"_note": "mine", "a/b": {"input": 1, "cached": 0.1, "output": 2}}))
    assert read_prices(file) == {"a/b": Price(1.0, 0.1, 2.0)}
    for text in ("[]", "{", '{"a": {"input": 1}}', '{"a": {"input": -1, "cached": 0, "output": 0}}'):
        file.write_text(text)
        with pytest.raises(HomeostasisError, match=r"prices\.json"):
            read_prices(file)
    with pytest.raises(HomeostasisError, match="`prices` must be a JSON file"):
        read_prices(tmp_path / "none.json")


def test_the_example_prices_say_that_they_are_examples():
    price = read_prices()["openai/gpt-4o-mini"]
    for text in (str(estimate(ConversationSettings(), "", 10, price)), price.note):
        assert "example prices as of 20" in text and "check them" in text and "--prices FILE" in text
    meter = Meter(price, max_cost=1e-9)
    meter.add(Usage(10, 0, 1))
    with pytest.raises(BudgetError, match="example prices as of"):
        meter.check()
    assert read_prices()["smollm2/135m"].note == ""
    assert "example" not in str(estimate(ConversationSettings(), "", 10, PRICE, episodes=3))


def test_replies_without_counts_cannot_be_priced():
    exchange = Attempt("?", "1, 2", prompt_tokens=1_000_000, cached_tokens=-1, completion_tokens=100_000)
    assert PRICE.of_attempt(exchange) == 2.0
    assert PRICE.of_attempt(Attempt("?", "", finish_reason="unreadable (not JSON)")) == 0.0
    with pytest.raises(BudgetError, match="reports no token counts"):
        PRICE.of_attempt(Attempt("?", "1, 2"))


def test_the_estimate_comes_before_the_first_request_and_is_near_what_is_used():
    told = []
    tokens = lambda request: sum(len(m.content) for m in request.messages) // 3  # noqa: E731
    sent = []

    def script(request):
        now, sent[:] = tokens(request), [tokens(request)]
        return Reply("10, 12", usage=Usage(now, 0, 8))

    env = make_env(100)
    client = MeteredClient(ScriptedClient(script), Meter(PRICE))
    agent = LanguageModelAgent(Task.from_env(env), client)
    opening = "".join(m.content for m in agent.prompts.opening())
    guess = estimate(agent.settings, opening, 100, PRICE)
    client.before_first = lambda: told.append(len(client.client.requests))
    rollout(env, agent, seed=1)
    assert told == [0]
    used = client.meter.uncached
    assert 0.3 < used / (guess.new + guess.repeated) < 3
    assert guess.cost < guess.cost_uncached and "$" in str(guess)
    blind = estimate(ConversationSettings(history=HistoryPolicy("blind")), opening, 100)
    assert blind.new < guess.new + guess.repeated and blind.cost is None
    assert "no price is known" in str(blind)
