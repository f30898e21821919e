"""Figures of a model on labelled sessions."""
