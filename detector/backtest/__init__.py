"""Backtests: history replayed through two models side by side, before one takes the other's place."""
