"""Episodes of a run folder played again from their recorded replies: no model, no key, no money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from homeostasis_agents.llm.agent import ConversationSettings, LanguageModelAgent
from homeostasis_agents.llm.client import ClientError, RecordedClient, ScriptedClient
from homeostasis_agents.llm.history import HistoryPolicy
from homeostasis_agents.llm.prompts import PromptSpec
from homeostasis_gym.agent import Attempt, Task
from homeostasis_gym.errors import HomeostasisError, RecordError
from homeostasis_gym.trajectory import Trajectory, read_trajectories

__all__ = ["RecordedAgent", "recorded"]


class RecordedAgent(LanguageModelAgent):
    """Plays each episode from the replies that were recorded for its seed.

    Args:
        task: What is to be played; as it was then, or the prompts differ and the episode stops with an error.
        episodes: Exchanges of an episode, by its seed.
        settings: How the agent talked.
        name: Name of the model.
    """

    def __init__(
        self,
        task: Task,
        episodes: Mapping[int, Sequence[Attempt]],
        settings: ConversationSettings,
        name: str = "recorded",
    ) -> None:
        self._episodes = episodes
        self._name = name
        super().__init__(task, RecordedClient((), name=name), settings)

    def reset(self, seed: int) -> None:
        """Begin the conversation that was recorded for a seed."""
        if seed in self._episodes:
            self.client = RecordedClient(self._episodes[seed], name=self._name)
        else:
            seeds = ", ".join(map(str, sorted(self._episodes)))
            missing = ClientError(f"the record must hold an episode of seed {seed}; it has the seeds {seeds}")
            self.client = ScriptedClient(lambda request: missing, name=self._name)
        super().reset(seed)


def recorded(task: Task, argument: str) -> RecordedAgent:
    """A conversation of a run folder once more: ``recorded:RUN``, or ``recorded:RUN+agent:NAME``.

    Settings are those of the record. The environment and the seeds must be the same, too.

    Args:
        task: What is to be played.
        argument: The run folder, and which of its agents, where several converse.

    Raises:
        RecordError: No records, or none of a conversation.
        HomeostasisError: The agent is not named clearly, or its episodes were not played in one way.
    """
    folder, _, agent = argument.partition("+agent:")
    episodes = [t for t in read_trajectories(Path(folder)) if any(t.attempts)]
    if agent:
        episodes = [t for t in episodes if t.header.agent == agent]
    names = sorted({t.header.agent for t in episodes})
    if not names:
        raise RecordError(f"`recorded` must name a run folder with a conversation{_of(agent)}, got {folder}")
    if len(names) > 1:
        raise HomeostasisError(
            f"`recorded` must name one agent, as recorded:{folder}+agent:NAME, of {', '.join(names)}"
        )
    conversations = [t.header.extra.get("conversation") for t in episodes]
    if not conversations[0] or any(one != conversations[0] for one in conversations):
        raise HomeostasisError(
            f"`recorded` must name episodes with one conversation's settings in all, but {folder} does not "
            f"hold them{_of(names[0])}"
        )
    seeds = [t.header.seed for t in episodes]
    if len(set(seeds)) < len(seeds):
        raise HomeostasisError(f"`recorded` must name one episode per seed, got the seeds {sorted(seeds)}")
    return RecordedAgent(
        task,
        {t.header.seed: _exchanges(t) for t in episodes},
        _conversation(conversations[0]),
        str(episodes[0].header.extra.get("model", "recorded")),
    )


def _of(agent: str) -> str:
    return f" of {agent!r}" if agent else ""


def _exchanges(trajectory: Trajectory) -> list[Attempt]:
    return [attempt for step in trajectory.attempts for attempt in step]


def _conversation(data: Mapping[str, Any]) -> ConversationSettings:
    """The settings that `LanguageModelAgent.record` described."""
    labels = data["prompt"]["labels"]
    prompt = {**data["prompt"], "labels": None if labels is None else tuple(labels)}
    own = {**data, "prompt": PromptSpec(**prompt), "history": HistoryPolicy(**data["history"])}
    return ConversationSettings(**own)
