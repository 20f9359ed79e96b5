"""What a reader is told of a tuning."""

from pathlib import Path

import numpy as np
import pytest

from services.training.tuning.config import Mode, Objective, TuneConfig
from services.training.tuning.loop import Curves
from services.training.tuning.outcomes import Outcome, compare
from services.training.tuning.result import COLUMNS, result_lines, result_rows
from services.training.tuning.tune import TuneResult


def outcome(metric, values):
    value_N = np.array(values, float)
    return Outcome(rows=len(value_N), figures=lambda rows: {metric: float(value_N[rows].mean())})


def result(objective, metric, before, after, *, mode=Mode.LORA, blind=0.0, retrieval=None):
    return TuneResult(
        folder=Path("build/backbone"),
        config=TuneConfig(mode=mode, objective=objective),
        changes=compare(outcome(metric, before), outcome(metric, after), seed=0),
        metric=metric,
        baseline={metric: blind},
        retrieval=retrieval,
        curves=Curves(loss=[1.0] * 20, best_step=15),
        report={},
    )


def test_a_row_says_figures_interval_and_whether_it_is_proven():
    found = result(Objective.CLASSIFICATION, "macro_f1", [0.25] * 9, [0.5] * 9)
    assert dict(zip(COLUMNS, result_rows(found)[0], strict=True)) == {
        "metric": "macro_f1", "before": "0.2500", "after": "0.5000", "change": "+0.2500",
        "95% interval": "+0.2500 to +0.2500", "proven": "better",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "before", "after", "word", "sentence"),
    [
        ("macro_f1", [0.5] * 9, [0.25] * 9, "worse", "WORSE, and proven"),
        ("macro_f1", [0.5] * 9, [0.5] * 9, "no", "Nothing changed"),
        ("macro_f1", [0.5] * 4, [0.4, 0.6, 0.4, 0.7], "no", "Not proven"),
        # Less is better.
        ("perplexity", [9.0] * 9, [8.0] * 9, "better", "better, and proven"),
        ("perplexity", [8.0] * 9, [9.0] * 9, "worse", "WORSE, and proven"),
    ],
)
def test_the_verdict_is_that_of_the_interval_on_the_metrics_good_side(
    metric, before, after, word, sentence
):
    found = result(Objective.MLM, metric, before, after)
    assert result_rows(found)[0][-1] == word
    assert sentence in next(result_lines(found))


def test_retrieval_of_other_objectives_is_a_row_and_a_sentence_of_its_own():
    moved = compare(
        outcome("new_ndcg_at_10", [0.2] * 5), outcome("new_ndcg_at_10", [0.1] * 5), seed=0
    )["new_ndcg_at_10"]
    found = result(Objective.MLM, "perplexity", [9.0] * 9, [8.0] * 9, retrieval=moved)
    assert [row[0] for row in result_rows(found)] == ["perplexity", "new_ndcg_at_10"]
    assert any(
        line.startswith("new_ndcg_at_10") and "WORSE" in line for line in result_lines(found)
    )


def test_what_needs_no_reading_is_set_beside_it():
    weak = result(Objective.CONTRASTIVE, "new_ndcg_at_10", [0.01] * 9, [0.03] * 9, blind=0.04)
    assert any("popular" in line and "no worse than" in line for line in result_lines(weak))
    assert any("9 users in periods" in line for line in result_lines(weak))
    strong = result(Objective.MLM, "perplexity", [9.0] * 9, [8.0] * 9, blind=50.0)
    assert any("50.0, worse than" in line for line in result_lines(strong))


def test_texts_that_were_left_out_are_counted():
    found = result(Objective.CLASSIFICATION, "macro_f1", [0.5] * 9, [0.6] * 9)
    assert not any("too rare" in line for line in result_lines(found))
    found.report["notes"] = {"texts_of_rare_labels_left_out": 12}
    assert any(line.startswith("12 texts of labels too rare") for line in result_lines(found))


def test_lines_say_which_weights_were_kept_and_how_to_use_them():
    lines = list(result_lines(result(Objective.MLM, "perplexity", [9.0] * 9, [8.0] * 9)))
    assert any("20 steps taken" in line and "after step 15" in line for line in lines)
    assert "DRIFTLINE_BACKBONE=build/backbone" in lines[-1]
    head = result(Objective.MLM, "perplexity", [9.0] * 9, [8.0] * 9, mode=Mode.HEAD)
    assert "build/backbone/heads" in list(result_lines(head))[-1]
