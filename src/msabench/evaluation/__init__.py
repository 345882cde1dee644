"""Predictions and data -> numbers: metrics, statistics, tables. Nothing here knows a model."""
