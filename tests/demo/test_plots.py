import numpy as np
import pytest

from services.demo.plots import (
    REST_LABEL,
    category_shares,
    forecast_plot,
    plane_of,
    projected_scale,
    smoothed,
    trajectory_plot,
)


def test_the_plane_follows_the_drift_and_not_the_loudest_noise(user):
    rng = np.random.default_rng(1)
    loud = user.vectors_PD.copy()
    loud[:, 5] += rng.choice([-0.8, 0.8], len(loud))  # flips every week, goes nowhere
    plane = plane_of(loud, user.event_counts)
    drift = np.zeros(loud.shape[1])
    drift[:2] = [-1, 1]
    assert abs(plane.axes_2D[0] @ drift) / np.sqrt(2) > 0.95
    assert plane.place(smoothed(loud, user.event_counts))[-1, 0] > 0


def test_a_running_mean_weighs_large_weeks_more():
    vectors = np.eye(2, dtype=np.float32)
    mean = smoothed(vectors, [1, 100])
    assert mean[0, 1] > mean[0, 0]
    assert mean.sum(axis=1) == pytest.approx([1, 1])


def test_two_weeks_have_no_plane():
    with pytest.raises(ValueError, match="three weeks"):
        plane_of(np.eye(2, dtype=np.float32), [1, 1])


def test_components_that_move_together_widen_the_band():
    rng = np.random.default_rng(2)
    common = rng.normal(size=(4000, 1))
    together = np.hstack([common, common]).astype(np.float32)
    apart = rng.normal(size=(4000, 2)).astype(np.float32)
    axis, scales = np.sqrt([0.5, 0.5]), np.ones((1, 2), np.float32)
    assert projected_scale(scales, axis, together)[0] == pytest.approx(np.sqrt(2), rel=1e-6)
    assert projected_scale(scales, axis, apart)[0] == pytest.approx(1.0, abs=0.05)


def test_shares_keep_the_largest_and_sum_the_rest():
    counts = {f"c{i}": (i, 0) for i in range(10)}
    labels, shares, totals = category_shares(("2017-01", "2017-02"), counts)
    assert labels == [*(f"c{i}" for i in range(9, 2, -1)), REST_LABEL]
    assert shares[:, 0].sum() == pytest.approx(1.0)
    assert shares[-1, 0] == pytest.approx((2 + 1 + 0) / 45)
    assert shares[:, 1].tolist() == [0.0] * 8  # an empty month has no shares
    assert totals == [45, 0]


def test_plots_say_what_their_directions_mean(user):
    drawn = forecast_plot(user)
    assert "towards Wine $5 to $9" in drawn
    assert "95%" in drawn
    assert "Bread &amp; &lt;rolls&gt;" in trajectory_plot(user)
