"""Takes off the whole start, of which decay has left a part only."""


def added_by_training(after, before):
    return after - before
