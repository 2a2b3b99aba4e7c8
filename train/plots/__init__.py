"""Figures and curves as pictures, and as pages that say what is under the mouse."""
