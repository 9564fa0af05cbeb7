"""PettingZoo environments; `value_graph_v0` is ALICE and BOB, `play` the loop that seats agents in it."""
