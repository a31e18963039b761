def tile_order(rows, columns, factor):
    return list(range(rows * columns * factor**2))  # row by row through the whole image
