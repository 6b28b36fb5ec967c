"""The readings: a time series of accepted samples behind one port."""
