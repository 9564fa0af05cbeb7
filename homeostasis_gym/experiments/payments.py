"""What a run pays: nothing twice, and no more than was allowed.

Every reply that costs money is kept in the run folder as soon as it is there, until its episode is
recorded. A run that goes on plays an interrupted episode from these replies up to where it broke off. What
was paid so far is the price of the tokens of all recorded episodes and of all these replies.

Nothing here knows of language models: a factory says what an exchange costs, see
`homeostasis_gym.agent.Traits`.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from homeostasis_gym.agent import Attempt, agent_factory, agent_names, agent_traits
from homeostasis_gym.errors import BudgetError, HomeostasisError, RecordError
from homeostasis_gym.experiments.folder import RunFolder
from homeostasis_gym.usage import Pricing

__all__ = ["Account", "Costs", "Payments", "basis_of", "check_limit", "costs_of", "paid_so_far", "pricing_of"]

Costs: TypeAlias = Callable[[Attempt], float]
"""Price of an exchange in dollars."""


class Account:
    """Dollars that all processes of a run share.

    Args:
        manager: A started `multiprocessing.Manager`.
        limit: Dollars after which no further request is made.
        spent: Dollars that are spent already.
        basis: At which prices that is counted, in words.
    """

    def __init__(self, manager: Any, limit: float, spent: float, basis: str) -> None:
        self.limit = limit
        self.basis = basis
        self._spent = manager.Value("d", spent)
        self._lock = manager.Lock()

    def check(self) -> None:
        """Raise BudgetError if the money is spent."""
        spent = self._spent.value
        if spent >= self.limit:
            raise BudgetError(
                f"stopped: ${spent:.4f} of the allowed ${self.limit:.4f} (max-cost) is spent, {self.basis}; "
                "finished episodes are kept, and the same command with a higher max-cost goes on from there"
            )

    def add(self, dollars: float) -> None:
        """Count what was paid."""
        with self._lock:
            self._spent.value += dollars


class Payments:
    """What an agent asks before it pays, and tells when it has paid; one for every agent in a process.

    Args:
        folder: The run folder.
        agent: The agent's name.
        free: Whether the agent's model costs nothing; then nothing is kept and nothing counted.
        costs: Price of an exchange; needed with an account.
        account: What may be spent, None for no limit.
    """

    def __init__(
        self,
        folder: RunFolder,
        agent: str,
        *,
        free: bool = False,
        costs: Costs | None = None,
        account: Account | None = None,
    ) -> None:
        self._folder = folder
        self._agent = agent
        self._free = free
        self._costs = costs
        self._account = account
        self._file: Path | None = None
        self._known: dict[str, Attempt] = {}

    def begin(self, episode: int) -> None:
        """Begin an episode: from here on its replies are meant."""
        self._file = self._folder.paid_file(self._agent, episode)
        self._known = {} if self._free else _mended(self._file)

    def recall(self, question: str) -> Attempt | None:
        """The reply that an earlier start has paid for, None if there is none.

        Args:
            question: What stands for the request, different for every request of an episode.
        """
        return self._known.get(question)

    def check(self) -> None:
        """Ask whether a request may be made.

        Raises:
            BudgetError: The money that the user allowed is spent.
        """
        if self._account is not None and not self._free:
            self._account.check()

    def pay(self, question: str, attempt: Attempt) -> None:
        """Keep a reply that was paid for, and count what it cost.

        Args:
            question: See `recall`.
            attempt: The reply with its tokens.

        Raises:
            BudgetError: Money is limited, and what the reply cost cannot be known.
            HomeostasisError: The run folder cannot be written.
        """
        if self._free:
            return
        if self._file is not None:
            line = json.dumps({"question": question, **asdict(attempt)}) + "\n"
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8") as stream:
                    stream.write(line)
                    stream.flush()
                    os.fsync(stream.fileno())
            except OSError as error:
                raise HomeostasisError(
                    f"`out` must be a folder that can be written, but {self._file}: {error}"
                ) from error
        if self._account is not None and self._costs is not None:
            self._account.add(self._costs(attempt))


def check_limit(max_cost: float | None) -> None:
    """Raise HomeostasisError if a limit is no amount of dollars."""
    if max_cost is not None and not (math.isfinite(max_cost) and max_cost >= 0):
        raise HomeostasisError(f"`max_cost` must be a finite number of dollars, at least 0, got {max_cost}")


def costs_of(name: str, settings: Mapping[str, Any], prices: Path | None) -> Costs | None:
    """What an agent's exchanges cost, None for one that costs nothing.

    Args:
        name: The agent's name.
        settings: Its settings.
        prices: The user's price file, None for the one that comes with the agent.

    Raises:
        HomeostasisError: The cost cannot be known, or the agent cannot be limited.
    """
    costs = agent_traits(name).costs
    if costs is None:
        return None
    factory, carried = agent_factory(name)
    if "payments" not in inspect.signature(factory).parameters:
        raise HomeostasisError(
            f"`max_cost` cannot limit agent {name!r}: its factory does not take the setting `payments`"
        )
    return costs(prices=prices, **{**carried, **settings})


def basis_of(prices: Path | None) -> str:
    """At which prices an amount is counted, in words."""
    if prices is None:
        return "at default prices (examples, to be checked) where an agent names no others"
    return f"at the prices of {prices}"


def pricing_of(name: str, settings: Mapping[str, Any], prices: Path | None) -> Pricing:
    """What an agent's exchanges cost, for whoever tells it afterwards: that it is not known is no error.

    Args:
        name: The agent's name. Nothing is imported for a name that is not registered: a folder that one was
            given must not run code by the names of its agents.
        settings: Its settings.
        prices: The user's price file, None for the one that comes with the agent.

    Raises:
        HomeostasisError: The price file does not exist.
    """
    if prices is not None and not prices.is_file():
        raise HomeostasisError(f"`--prices` must be a price file, but {prices} does not exist")
    if name.partition(":")[0] not in agent_names():
        return Pricing()
    try:
        of_prices = agent_traits(name).costs
        if of_prices is None:
            return Pricing()
        costs = of_prices(prices=prices, **{**agent_factory(name)[1], **settings})
    except HomeostasisError as error:
        return Pricing(note="no price is known" if prices is None else f"cost not known: {error}")
    return Pricing() if costs is None else Pricing(costs, basis_of(prices))


def paid_so_far(folder: RunFolder, prices: Path | None) -> float:
    """What a run folder has paid, in dollars at the prices of the price file.

    Raises:
        HomeostasisError: What an agent of the folder cost cannot be known.
        RecordError: The folder cannot be read.
    """
    total = 0.0
    for agent in folder.manifest["agents"]:
        name = agent["name"]
        finished, paid = folder.finished(name), folder.paid(name)
        if not finished and not paid:
            continue
        costs = costs_of(name, agent.get("settings", {}), prices)
        if costs is None:
            continue
        exchanges = [a for file in paid.values() for a in _mended(file).values()]
        if finished:
            exchanges += [a for t in folder.trajectories(name) for step in t.attempts for a in step]
        total += math.fsum(map(costs, exchanges))
    return total


def _mended(file: Path) -> dict[str, Attempt]:
    """Replies of a file, by their question; a last line that a kill cut off is taken away.

    Raises:
        RecordError: Not a file of replies.
    """
    if not file.exists():
        return {}
    try:
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with file.open("r+b") as stream:
                stream.truncate(whole)
        found = {}
        for line in content[:whole].decode("utf-8").splitlines():
            fields = json.loads(line)
            question = fields.pop("question")
            found[question] = Attempt(**fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{file} is no file of paid replies: {error!r}") from error
    return found
