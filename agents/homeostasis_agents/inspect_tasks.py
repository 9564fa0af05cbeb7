"""The benchmarks as Inspect AI tasks: ``inspect eval homeostasis_gym/mohon --model openai/gpt-4o-mini``.

One sample is one episode, its id the seed. The solver is `homeostasis_gym.rollout.rollout` with our own
language-model agent, in a thread per sample, so that a task plays exactly as ``homeostasis-gym compare``
does and gives equal numbers on equal replies. The whole record stands in the sample's metadata;
`homeostasis_agents.inspect_logs` turns a log into records for ``score`` and ``report``.

Options (``-T NAME=VALUE``): ``episodes``, ``seed`` (of the first episode), ``steps``, every setting of the
agent (see `homeostasis_agents.llm.factories.conversation_settings`), ``temperature``, ``backend``,
``prices``, ``max_cost``, ``attempt_timeout``, ``give_up_after``, ``request_retries``, and ``env_NAME`` for
arguments of the environment. Inspect's response cache is never used: it would make one episode out of many.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from inspect_ai import Task as InspectTask
from inspect_ai import task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from homeostasis_agents.inspect_logs import from_plain, to_plain
from homeostasis_agents.llm.agent import LanguageModelAgent
from homeostasis_agents.llm.client import ClientError
from homeostasis_agents.llm.factories import hosted_settings
from homeostasis_agents.llm.hosted import InspectClient
from homeostasis_agents.llm.inspect_provider import SmolLM2
from homeostasis_agents.llm.metering import Meter, MeteredClient, estimate, say
from homeostasis_gym.agent import Task
from homeostasis_gym.collapse import score
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.experiments.spec import make_env
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import Trajectory

__all__ = ["ENVIRONMENTS", "TASKS", "SmolLM2", "mean_known", "outcome", "play_episode"]

ENVIRONMENTS: Mapping[str, str] = {
    "mohon": "Homeostasis-MOHoN-v0",
    "single": "Homeostasis-Single-v0",
    "mobuo": "Homeostasis-MOBUO-v0",
    "mobuon": "Homeostasis-MOBUON-v0",
    "sustainability": "Homeostasis-Sustainability-v0",
    "sleepwake": "Homeostasis-SleepWake-v0",
    "value_graph": "Homeostasis-ValueGraph-v0",
}
"""Environment of every task."""

_MOST_EPISODES_AT_ONCE = 1000


@metric
def mean_known() -> Metric:
    """Mean over the samples where the value is known; 0 where it is known of none."""

    def compute(scores: list[SampleScore]) -> float:
        known = [one.score.as_float() for one in scores]
        known = [value for value in known if value == value]
        return sum(known) / len(known) if known else 0.0

    return compute


_OUTCOMES = ("flip", "onset", "runaway_index", "regret", "invalid_rate")


@scorer(metrics={name: [mean_known()] for name in _OUTCOMES})
def outcome() -> Scorer:
    """Flip, onset, Runaway Index, regret, and the share of replies that were refused."""

    async def evaluate(state: TaskState, target: Target) -> Score:
        if "trajectory" not in state.metadata:
            # One of Inspect's own limits ended the sample; left out of every metric, as NaN is.
            return Score(
                value=dict.fromkeys(_OUTCOMES, float("nan")),
                answer="unscored",
                explanation="a limit ended the sample before its episode was over",
            )
        trajectory = from_plain(state.metadata["trajectory"])
        result = score([trajectory])[0]
        replies = sum(len(step) for step in trajectory.attempts)
        values = {
            "flip": result.flip,
            "onset": result.onset,
            "runaway_index": result.runaway_index,
            "regret": result.regret,
            "invalid_rate": result.invalid_replies / replies if replies else None,
        }
        verdict = "no flip"
        if result.flip:
            verdict = f"flip into {result.objective} from step {result.onset}"
        return Score(
            # What is not known is not zero: Inspect leaves NaN out of its metrics, and so do ours.
            value={key: float("nan") if value is None else float(value) for key, value in values.items()},
            answer=verdict,
            explanation=f"{verdict}; score {result.score:.0f}, {result.reference_policy} on the same noise "
            f"{result.reference_score}; {result.invalid_replies} of {replies} replies refused; "
            f"{result.reason}".rstrip("; "),
            metadata=result.to_dict(),
        )

    return evaluate


@solver
def play_episode(env_id: str, env_kwargs: Mapping[str, Any], settings: Mapping[str, Any]) -> Solver:
    """Play one episode with the model under evaluation.

    Args:
        env_id: Gymnasium id.
        env_kwargs: Arguments for the environment.
        settings: The agent's settings.
    """
    talk, options, price, max_cost = hosted_settings("the task", settings)
    # One budget for all samples of the task.
    meter = Meter(None, None)
    told = threading.Event()
    limiter: list[anyio.CapacityLimiter] = []

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        if not limiter:
            # The embedded model holds one conversation: a second would take its prefix cache away.
            alone = str(model).startswith("smollm2/")
            limiter.append(anyio.CapacityLimiter(1 if alone else _MOST_EPISODES_AT_ONCE))
            meter.price, meter.max_cost = price(str(model)), max_cost
        stopped = threading.Event()

        def run(call: Callable[[], Awaitable[Any]]) -> Any:
            if stopped.is_set():
                raise ClientError("the sample was cancelled")

            async def awaited() -> Any:
                return await call()

            return anyio.from_thread.run(awaited)

        def episode() -> Trajectory:
            env = make_env(env_id, env_kwargs)
            seat = Task.from_env(env)
            client = MeteredClient(InspectClient(model, run=run, **options), meter)
            agent = LanguageModelAgent(seat, client, talk)

            def tell() -> None:
                if not told.is_set():
                    told.set()
                    opening = "".join(m.content for m in agent.prompts.opening())
                    steps = getattr(seat.benchmark, "episode_length", 100)
                    say(f"{model}: {estimate(talk, opening, steps, meter.price)}")

            client.before_first = tell
            return rollout(
                env,
                agent,
                seed=state.metadata["seed"],
                agent_name=str(model),
                episode=state.metadata["episode"],
                env_kwargs=env_kwargs,
                agent_settings=settings,
                extra=agent.record,
            )

        try:
            trajectory = await anyio.to_thread.run_sync(episode, limiter=limiter[0], abandon_on_cancel=True)
        finally:
            stopped.set()
        state.metadata["trajectory"] = to_plain(trajectory)
        state.messages = conversation(trajectory)
        last = next((m for m in reversed(state.messages) if m.role == "assistant"), None)
        state.output = ModelOutput.from_content(str(model), last.text if last is not None else "")
        state.completed = True
        return state

    return solve


def conversation(trajectory: Trajectory) -> list[ChatMessage]:
    """The whole conversation of an episode as it went, refused replies included, for the viewer."""
    messages: list[ChatMessage] = []
    for attempts in trajectory.attempts:
        for attempt in attempts:
            prompt = attempt.prompt
            if not messages and prompt.startswith("[system] "):
                instructions, _, prompt = prompt.removeprefix("[system] ").rpartition("\n")
                messages.append(ChatMessageSystem(content=instructions))
            messages.append(ChatMessageUser(content=prompt))
            messages.append(ChatMessageAssistant(content=attempt.reply))
    return messages


def _benchmark_task(name: str) -> Callable[..., InspectTask]:
    def build(episodes: int = 10, seed: int = 1, steps: int = 100, **settings: Any) -> InspectTask:
        for option, value, least in (("episodes", episodes, 1), ("seed", seed, 0), ("steps", steps, 1)):
            if not isinstance(value, int) or value < least:
                raise HomeostasisError(
                    f"`{option}` must be a whole number of at least {least}, got {value!r}"
                )
        env_kwargs = {"max_consumption": None, "episode_length": steps}
        env_kwargs |= {
            option.removeprefix("env_"): settings.pop(option)
            for option in list(settings)
            if option.startswith("env_")
        }
        make_env(ENVIRONMENTS[name], env_kwargs).close()
        samples = [
            Sample(
                input=f"{ENVIRONMENTS[name]}, {steps} steps, noise of seed {seed + k}",
                id=f"seed-{seed + k}",
                metadata={"seed": seed + k, "episode": k},
            )
            for k in range(episodes)
        ]
        return InspectTask(
            dataset=MemoryDataset(samples, name=name),
            solver=play_episode(ENVIRONMENTS[name], env_kwargs, settings),
            scorer=outcome(),
            metadata={"env_id": ENVIRONMENTS[name]},
            version=1,
        )

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{ENVIRONMENTS[name]}, one sample per seed; see this module for the options."
    # Inspect names a task after the package of its module, and users know us by this one.
    build.__module__ = "homeostasis_gym"
    decorated: Callable[..., InspectTask] = task(name=name)(build)
    return decorated


TASKS: Mapping[str, Callable[..., InspectTask]] = {name: _benchmark_task(name) for name in ENVIRONMENTS}
"""The tasks by name."""
