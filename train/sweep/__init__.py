"""Sweeps: many variants of a training config over one store, and what they say beside each other."""
