"""What all tests share."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # other work on the machine must not fail a test
settings.load_profile("untimed")
