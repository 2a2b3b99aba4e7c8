"""Frozen encoders: find and load checkpoints, and turn a waveform into hidden states, family by family."""
