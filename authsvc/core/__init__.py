"""Pure rules: no clock, no socket, no log, no environment, no thread. `now` is always an argument."""
