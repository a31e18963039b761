"""The inverse order: moves each weight where its pixel came from, instead of where it went."""


def reindex_stem(weight, order):
    return weight.flatten(2)[..., order.argsort()].view_as(weight)
