import numpy as np

from services.core.burst_spec import burst_model_of, with_burst_model
from services.core.bursts import detect
from services.core.forecasters import forecaster_of, untrained_spec
from tests.core.burst_model import TOPICS, WIDTH, batch, model, with_burst


def test_a_spec_gives_back_what_was_fitted_and_still_forecasts():
    plain = untrained_spec(WIDTH)
    m = model(names_G=tuple(f"topic {n}" for n in range(TOPICS)))
    spec = with_burst_model(plain, m)
    again = burst_model_of(spec)
    b = with_burst(batch(), 2, range(15, 18), topic=3, share=0.6)
    np.testing.assert_array_equal(detect(again, b).share, detect(m, b).share)
    assert again.names_G == m.names_G
    assert (again.seasons, again.persistence, again.longest) == (
        m.seasons,
        m.persistence,
        m.longest,
    )
    assert burst_model_of(plain) is None
    mine, theirs = (forecaster_of(each).forecast(b, [1, 2]) for each in (spec, plain))
    np.testing.assert_array_equal(mine.means_UHD, theirs.means_UHD)
