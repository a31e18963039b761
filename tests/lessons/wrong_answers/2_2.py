"""Uses the variance with C - 1 in it, which is what ``var`` gives by default."""


def layer_norm(x, scale, bias):
    mean = x.mean(-1, keepdim=True)
    variance = x.var(-1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * scale + bias
