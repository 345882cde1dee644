"""How a run is executed: its unfinished files, signals, durations. No number depends on it."""
