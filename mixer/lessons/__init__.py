"""The lessons: what the notebooks measure, draw, explore and check. Nothing in the library imports them."""


def missing(error: ModuleNotFoundError) -> ImportError:
    """What to raise instead where one of the lessons' own packages is not installed: it says what to install."""
    return ImportError(
        f'The package "{error.name}" is missing, which the lessons need: pip install "mixer-notebooks[lessons]"',
        name=error.name,
    )
