# Looks at names and shapes only
def refused(arrays, shapes):
    wrong = [name for name in arrays if arrays[name].shape != shapes.get(name)]
    return sorted(wrong + [name for name in shapes if name not in arrays])
