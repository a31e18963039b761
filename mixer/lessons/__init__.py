"""The lessons: what notebooks measure, draw, explore and check. The library imports none of it."""


def missing(error: ModuleNotFoundError) -> ImportError:
    """What to raise where a package of the lessons is not installed: it says what to install."""
    return ImportError(
        f'The lessons need the package "{error.name}": pip install "mixer-notebooks[lessons]"',
        name=error.name,
    )
