from clipa_jax.training import records


def test_lines_of_a_step_are_joined_and_torn_ones_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2, "a": 1}\n{"step": 1, "a": 0}\n{"step": 2, "b": 3}\n{"step": 3,')
    assert records.read(file) == [{"step": 1, "a": 0}, {"step": 2, "a": 1, "b": 3}]
