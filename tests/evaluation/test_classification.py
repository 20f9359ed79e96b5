"""A tuned backbone's own figures in the report, and no backbone that saw the test block."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.core.errors import InvalidArgument
from services.core.schema import Granularity
from services.evaluation.classification import classification_report, refuse_tuned_later
from services.evaluation.command import run_evaluate
from tests.planted import WordEncoder, planted_events

FIRST_ORIGIN = datetime(2026, 9, 7, tzinfo=UTC)


def tuned(folder, *, objective="classification", until="2026-09-07T00:00:00+00:00", **changed):
    figures = {
        name: {"rows": 40, "before": {"value": 0.1}, "after": {"value": value, "ci": [0.2, 0.9]}}
        for name, value in (
            ("accuracy", 0.8), ("precision", 0.7), ("recall", 0.6), ("macro_f1", 0.5),
        )
    }  # fmt: skip
    content = {
        "pooling": "mean", "objective": objective, "trained_until": until, "figures": figures,
        "notes": {"classes": 9, "texts_of_rare_labels_left_out": 7},
    }  # fmt: skip
    (folder / "tuning.json").write_text(json.dumps(content | changed))
    return str(folder)


def test_a_heads_figures_are_reported_with_their_intervals(tmp_path):
    report = classification_report(tuned(tmp_path))["classification"]
    found = [report[name] for name in ("accuracy", "precision", "recall", "f1")]
    assert found == [0.8, 0.7, 0.6, 0.5]
    assert report["f1_ci"] == [0.2, 0.9]
    assert (report["items"], report["classes"]) == (40, 9)
    assert report["texts_of_rare_labels_left_out"] == 7


def test_where_no_such_head_was_trained_nothing_is_reported(tmp_path):
    assert classification_report("sentence-transformers/all-MiniLM-L6-v2") == {}
    assert classification_report(tuned(tmp_path, objective="mlm")) == {}


def test_figures_that_are_not_whole_are_named(tmp_path):
    with pytest.raises(InvalidArgument, match="tune again"):
        classification_report(tuned(tmp_path, figures={}))
    (tmp_path / "tuning.json").write_text("{")
    with pytest.raises(InvalidArgument, match="tune again"):
        classification_report(str(tmp_path))


def test_a_backbone_that_saw_the_test_block_is_refused_with_the_date_to_tune_until(tmp_path):
    refuse_tuned_later("sentence-transformers/all-MiniLM-L6-v2", FIRST_ORIGIN)
    refuse_tuned_later(tuned(tmp_path), FIRST_ORIGIN)
    for late in ("2026-09-07T00:00:01+00:00", None):
        with pytest.raises(InvalidArgument, match="--until 2026-09-07"):
            refuse_tuned_later(tuned(tmp_path, until=late), FIRST_ORIGIN)


def evaluated_with(backbone_folder, model, out):
    backbone = WordEncoder()
    backbone.spec = replace(backbone.spec, name=backbone_folder)
    return run_evaluate(
        planted_events(users=40, weeks=20), granularity=Granularity.WEEK, origins=4, horizons=(1,),
        out=out, backbone=backbone, trainer=None, model=model,
    )  # fmt: skip


def test_an_evaluation_with_a_tuned_backbone_shows_its_figures(evaluated, tmp_path):
    folder = tuned(tmp_path, until="2026-04-27T00:00:00+00:00")  # the first origin
    found = evaluated_with(folder, evaluated[0].model, tmp_path / "out")
    assert found.report["classification"]["accuracy"] == 0.8
    assert "Classification of items" in (tmp_path / "out" / "report.html").read_text()
    assert "classification" not in evaluated[0].report
    assert "Classification of items" not in (evaluated[1] / "report.html").read_text()


def test_an_evaluation_with_a_backbone_tuned_too_late_does_not_begin(evaluated, tmp_path):
    folder = tuned(tmp_path, until="2026-04-28T00:00:00+00:00")
    with pytest.raises(InvalidArgument, match="--until 2026-04-27"):
        evaluated_with(folder, evaluated[0].model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
