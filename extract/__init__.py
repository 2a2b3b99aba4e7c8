"""Stage 1: raw datasets and frozen encoders in, a feature store out (``ser-extract``)."""
