"""A rehearsal of an experiment: the same jobs on little speech, before the long ones run."""
