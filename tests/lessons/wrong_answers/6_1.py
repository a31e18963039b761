"""Does not normalise: large units seem most opposite to everything."""


def most_opposite(units):
    flat = units.flatten(1)
    return (flat @ flat.T).argmin(dim=1)
