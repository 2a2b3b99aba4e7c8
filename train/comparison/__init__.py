"""Runs beside each other: what they predict, joined by name, and which of them can be told apart."""
