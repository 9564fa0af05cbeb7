"""Records survive the way to the disk and back, and broken ones are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from homeostasis_gym.agent import Attempt
from homeostasis_gym.errors import HomeostasisError, RecordError
from homeostasis_gym.trajectory import Header, Trajectory, read_trajectories, write_trajectories

FLOATS = st.floats(width=64, allow_nan=True, allow_infinity=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ATTEMPTS = st.builds(
    Attempt,
    prompt=TEXT,
    reply=TEXT,
    error=TEXT,
    finish_reason=TEXT,
    prompt_tokens=st.integers(-1, 10**9),
    cached_tokens=st.integers(-1, 10**9),
    completion_tokens=st.integers(-1, 10**9),
    seconds=st.floats(0, 1e6),
)


@st.composite
def trajectories(draw):
    steps = draw(st.integers(1, 5))

    def floats(rows):
        return draw(arrays(np.float64, (rows, draw(st.integers(0, 3))), elements=FLOATS))

    whole = st.integers(-(2**63), 2**63 - 1)
    return Trajectory(
        header=Header(
            env_id=draw(TEXT),
            agent=draw(TEXT),
            seed=draw(st.integers(-1, 2**63)),
            episode=draw(st.integers(0, 10**6)),
            seat=draw(TEXT),
            env_kwargs=draw(st.dictionaries(TEXT, st.none() | st.integers() | TEXT, max_size=2)),
            reward_names=tuple(draw(st.lists(TEXT, max_size=2))),
        ),
        observations=floats(steps + 1),
        states=floats(steps + 1),
        actions=draw(arrays(np.int64, (steps, 2), elements=whole)),
        rewards=floats(steps),
        noise=floats(steps),
        valid=draw(arrays(np.bool_, steps)),
        forbidden=draw(arrays(np.bool_, steps)),
        seconds=draw(arrays(np.float64, steps, elements=FLOATS)),
        attempts=tuple(tuple(draw(st.lists(ATTEMPTS, max_size=2))) for _ in range(steps)),
        terminated=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(batch=st.lists(trajectories(), min_size=1, max_size=3))
def test_records_survive_a_round_trip(tmp_path_factory, batch):
    path = tmp_path_factory.mktemp("records") / "batch.parquet"
    write_trajectories(path, batch)
    back = read_trajectories(path)
    assert back == batch
    for old, new in zip(batch, back, strict=True):
        assert new.attempts == old.attempts
        np.testing.assert_array_equal(new.seconds, old.seconds)
    assert [p.name for p in path.parent.iterdir()] == ["batch.parquet"]  # nothing is left aside


def example(**changes):
    zeros = np.zeros((2, 1))
    base = Trajectory(
        header=Header(env_id="e", agent="a"),
        observations=np.zeros((3, 1)),
        states=np.zeros((3, 1)),
        actions=np.zeros((2, 1), dtype=np.int64),
        rewards=zeros,
        noise=zeros,
        valid=np.ones(2, dtype=bool),
        forbidden=np.zeros(2, dtype=bool),
        seconds=np.zeros(2),
    )
    return replace(base, **changes)


def test_amounts_stay_floats_and_counts_stay_whole(tmp_path):
    for actions in (np.array([[1], [2]]), np.array([[0.5], [2.0]])):
        write_trajectories(tmp_path / "a.parquet", [example(actions=actions)])
        (back,) = read_trajectories(tmp_path / "a.parquet")
        assert back.actions.dtype == actions.dtype
        np.testing.assert_array_equal(back.actions, actions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.zeros((3, 1))}, r"`rewards` must hold one row per action \(2\), got 3"),
        ({"states": np.zeros((2, 1))}, r"`states` must have shape \(3, components\), .* got \(2, 1\)"),
    ],
)
def test_arrays_must_fit_together(changes, message):
    with pytest.raises(HomeostasisError, match=message):
        example(**changes)


def test_equality_sees_everything_but_time():
    assert example() == example(seconds=np.ones(2))
    assert example() != example(rewards=np.ones((2, 1)))
    assert example() != example(valid=np.zeros(2, dtype=bool))
    talk = Attempt("p", "r", seconds=1.0)
    assert example(attempts=((talk,), ())) == example(attempts=((replace(talk, seconds=2.0),), ()))
    assert example(attempts=((talk,), ())) != example(attempts=((replace(talk, reply="x"),), ()))


def test_unknown_token_counts_are_not_a_number():
    known = Attempt("p", "r", prompt_tokens=3)
    assert np.isnan(example().tokens("prompt"))
    assert example(attempts=((known,), (known,))).tokens("prompt") == 6
    assert np.isnan(example(attempts=((known,), (replace(known, prompt_tokens=-1),))).tokens("prompt"))


def test_what_is_no_record_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(RecordError, match="does not exist"):
        read_trajectories(tmp_path / "nothing.parquet")
    with pytest.raises(RecordError, match="holds none"):
        read_trajectories(tmp_path)
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(RecordError, match=r"text\.parquet cannot be read as Parquet"):
        read_trajectories(tmp_path / "text.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(RecordError, match="carries no headers"):
        read_trajectories(tmp_path / "other.parquet")
