"""Commands as typed: `driftline tune`."""

import pytest
from typer.testing import CliRunner

from services.cli import app, main
from tests.training.tuning.test_command import stored
from tests.training.tuning.tiny import tiny_encoder


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Run `driftline tune` on a planted store; returns its output."""
    store = stored(tmp_path / "store")
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(store.settings.data_dir))
    monkeypatch.setenv("DRIFTLINE_BUCKET_COUNT", str(store.settings.bucket_count))
    base = tiny_encoder(tmp_path / "base")

    def run(*words):
        return ["tune", f"--backbone={base}", f"--out={tmp_path / 'out'}", *words]

    return run


def test_a_tuning_ends_in_a_table_and_what_it_means(typed, tmp_path):
    found = CliRunner().invoke(
        app, typed("--mode=head", "--hold-out=3", "--steps=2", "--until=2026-04-20")
    )
    assert found.exit_code == 0, found.output
    # Whatever the terminal's width.
    output = " ".join(found.output.split())
    assert "objective contrastive, method head" in output
    assert "metric before after change 95% interval proven" in output
    assert "in periods that tuning did not learn from" in output
    assert (tmp_path / "out" / "tuning.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--until=2026-13-01"], "not a date"),
        (["--until=2020-01-01"], "no event is before"),
        (["--hold-out=40"], "hold out fewer"),
        (["--objective=causal"], "tune it with mlm"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    typed, tmp_path, monkeypatch, capsys, words, said
):
    monkeypatch.setattr("sys.argv", ["driftline", *typed(*words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_portraits_are_judged_of_a_file_or_of_the_demos_data_never_of_both_or_none(tmp_path):
    for said in ([], [str(tmp_path / "events.parquet"), "--complete-journey"]):
        result = CliRunner().invoke(app, ["evaluate", "portraits", *said])
        assert result.exit_code == 2
        assert "name a file of events, or --complete-journey" in " ".join(result.output.split())
