"""Rate limits: the algorithms, which are pure, and where their state lives."""
