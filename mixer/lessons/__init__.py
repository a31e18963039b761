"""The lessons: what notebooks measure, draw, explore and check. The library imports none of it."""


def missing(error: ModuleNotFoundError) -> ImportError:
    """What to raise where a package of the lessons is not installed: it says what to install."""
    package = (error.name or "").partition(".")[0]
    return ImportError(
        f'The lessons need the package "{package}": pip install "mixer-notebooks[lessons]"',
        name=package,
    )
