"""Stage 2: a feature store in, trained models and honest numbers out (``ser-train``)."""
