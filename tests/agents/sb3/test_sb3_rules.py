import pytest

pytest.importorskip("stable_baselines3")

from homeostasis_agents.sb3.spec import TrainingSpec, has_settings, make_spec

from homeostasis_gym.errors import HomeostasisError, UnknownNameError

MOHON = "Homeostasis-MOHoN-v0"
NAN, INFINITE = float("nan"), float("inf")


def spec(algorithm="PPO", **changes):
    return make_spec(algorithm, MOHON, **changes)


@pytest.mark.parametrize(
    ("name", "values", "rule"),
    [
        (
            "learning_rate",
            ["abc", None, True, 0, -1e-3, NAN, INFINITE, [1]],
            "must be a finite number above 0",
        ),
        ("final_learning_rate", ["abc", None, -1e-3, INFINITE], "must be a finite number of at least 0"),
        ("reward_scale", ["abc", None, 0, -1.0, INFINITE, 10**400], "must be a finite number above 0"),
        ("component_limit", ["abc", 0, -5, NAN], "must be a finite number above 0, or null"),
        ("component_leak", ["abc", None, -0.1, 1.5, NAN], "must be a number from 0 to 1"),
        (
            "net_arch",
            ["64", 64, None, [64, 0], [64.0], ["a"], {"pi": [64]}],
            "must be a list of integers of at",
        ),
        ("activation", ["gelu", None, 1, ["relu"]], "must be relu or tanh"),
        (
            "grid",
            ["abc", 5, [1, 2], {"width": 3}],
            "must be a mapping with `low`, `high` and `points`, or null",
        ),
        ("final_entropy", ["abc", -0.1, True, NAN], "must be a finite number of at least 0, or null"),
        ("actions", ["multi", None, 5, ["box"]], "must be one of multidiscrete, discrete, box"),
        (
            "arguments",
            ["abc", 5, [1], {"gamma": object()}, {1: 2}],
            "must be a mapping from names to plain data",
        ),
        ("env_kwargs", ["abc", 5, {"objectives": object()}], "must be a mapping from names to plain data"),
        (
            "scalarization",
            [5, None, ["linear"], {"name": object()}],
            "must be a name, or a mapping with `name`",
        ),
        ("steps", [0, 1.5, "abc", True], "must be an integer of at least 1"),
        ("envs", [0, 1.5, "abc"], "must be an integer of at least 1"),
        ("segments", [0, 1.5, "abc"], "must be an integer of at least 1"),
        ("seed", [-1, 2**32, "abc", 1.5], "must be an integer of at least 0 and at most 4294967295"),
        ("tuned_by", [5, None], "must be text"),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_rule_and_value(name, values, rule):
    for value in values:
        with pytest.raises(HomeostasisError) as told:
            TrainingSpec(algorithm="PPO", env_id=MOHON, **{name: value})
        assert str(told.value).startswith(f"`{name}` {rule}"), value
        assert str(told.value).endswith(f"got {value!r}")


@pytest.mark.parametrize("value", ["TRPO", None, ["PPO"]])
def test_an_algorithm_that_is_none_is_named(value):
    with pytest.raises(UnknownNameError, match="`algorithm` must be one of PPO, A2C"):
        TrainingSpec(algorithm=value, env_id=MOHON)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gamma", "x", r"`arguments\['gamma'\]` must be a number from 0 to 1, got 'x'"),
        ("gamma", 1.1, r"`arguments\['gamma'\]` must be a number from 0 to 1, got 1.1"),
        ("n_steps", 2.5, r"`arguments\['n_steps'\]` must be an integer of at least 1, got 2.5"),
        ("ent_coef", "auto", r"`arguments\['ent_coef'\]` must be a finite number of at least 0, got 'auto'"),
        (
            "learning_rate",
            0.1,
            "`arguments` must not name 'learning_rate', which is a setting of its own; got 0.1",
        ),
        ("device", "cuda", "`arguments` must not name 'device', which is always the CPU; got 'cuda'"),
    ],
)
def test_an_argument_of_the_algorithm_is_checked_before_it_is_built(name, value, message):
    with pytest.raises(HomeostasisError, match=message):
        spec(arguments={name: value})


@pytest.mark.parametrize(
    ("algorithm", "changes", "message"),
    [
        ("DQN", {"actions": "multidiscrete"}, "`actions` must be discrete for DQN, got 'multidiscrete'"),
        ("SAC", {"actions": "discrete"}, "`actions` must be box for SAC, got 'discrete'"),
        ("SAC", {"final_entropy": 0.0}, "`final_entropy` must be null for SAC .*, got 0.0"),
        ("SAC", {"arguments": {"ent_coef": -1}}, "must be a finite number of at least 0, or auto, got -1"),
        ("RecurrentPPO", {"net_arch": []}, "`net_arch` must hold the size of the memory for RecurrentPPO"),
        ("PPO", {"grid": {"points": 1}}, r"`grid\['points'\]` must be an integer of at least 2, got 1"),
        ("PPO", {"grid": {"low": 2.0}}, r"`grid\['low'\]` must be below `grid\['high'\]`, got 2.0 and 1.5"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_told(algorithm, changes, message):
    with pytest.raises(HomeostasisError, match=message):
        spec(algorithm, **changes)


def test_what_can_be_is_taken_as_it_is():
    kept = spec("SAC", learning_rate=1, component_limit=None, grid=None, arguments={"ent_coef": "auto_0.1"})
    assert kept.learning_rate == 1 and kept.arguments["ent_coef"] == "auto_0.1"
    assert spec(net_arch=[]).net_arch == ()
    assert TrainingSpec.from_dict(kept.to_dict()) == kept


def test_environments_with_settings_of_their_own_are_known():
    assert has_settings("PPO", "Homeostasis-MOBUO-v0")
    assert has_settings("PPO", MOHON)  # the defaults are its own
    assert not has_settings("PPO", "Homeostasis-SleepWake-v0")
