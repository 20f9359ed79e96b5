"""Settings of the whole suite."""

from hypothesis import settings

# Two workers share two cores with servers that tests start: an example may wait for its turn.
settings.register_profile("driftline", deadline=None)
settings.load_profile("driftline")
