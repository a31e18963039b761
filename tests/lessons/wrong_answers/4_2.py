def tile_order(rows, columns, factor):
    # Row by row through the whole image
    return list(range(rows * columns * factor**2))
