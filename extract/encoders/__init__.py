"""Frozen encoders: finding and loading checkpoints, and what each family does with a waveform."""
