"""Which errors the user can mend: each is told in one line that names a section of the README."""

INTERRUPTED = "interrupted: `dvc repro` goes on from the last checkpoint"
INTERRUPTED_STATUS = 130  # what a shell reports of a command that Ctrl-C ended


class ParamsError(ValueError):
    """A setting that is not permitted; the message names it, its value and what is permitted."""


class DataError(ValueError):
    """A promise of the data that does not hold; the message names place, value and range."""


class DeviceError(DataError):
    """A device that this machine, or this build of PyTorch, does not have."""


class EncoderError(DataError):
    """A text encoder that is not there, or is not the one that was published."""


# The first kind that fits an error tells its section. All else is a defect of the code, and ends in
# a traceback.
SECTIONS: dict[type[Exception], str] = {
    DeviceError: "Systems",
    EncoderError: "The report's own setting",
    DataError: "Data",
    ParamsError: "Try one setting",
    FloatingPointError: "Try one setting",
    MemoryError: "Try one setting",
    OSError: "Interrupted",
    ModuleNotFoundError: "Systems",
}
MENDABLE = tuple(SECTIONS)


def told(error: BaseException, place: str = "", section: str = "") -> str:
    """Return the line that tells of one of the MENDABLE errors.

    place: what was to run. section: of the README, where it is not that of the kind of error.
    """
    section = section or next(name for kind, name in SECTIONS.items() if isinstance(error, kind))
    reason = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        reason += "; `make repro` installs what is needed"
    return f'error: {place}{": " if place else ""}{reason} (README: "{section}")'
