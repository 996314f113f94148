"""The policies around an attempt, one a module; each decides from values and does no I/O."""
