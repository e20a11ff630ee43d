"""Every error a person can cause, and nothing else.

    SmidgenError                exit code 2, one clear line, no traceback
    ├── ConfigError             a recipe, an option or an override that cannot be meant
    ├── DataError               text that cannot be read, or is not text
    ├── TokenizerError          a tokenizer file that does not fit the model or the text
    ├── CheckpointError         a model or resume state that is missing, damaged or refused
    ├── BudgetError             a size or a time that cannot work; names the nearest that can
    ├── TrainingError           a run that must stop: loss not finite, spike, nothing supervised
    ├── RunError                a run directory that cannot be written or belongs to something else
    └── MissingExtraError       an optional dependency, named with the extra that brings it

A message says what is wrong (with the value), where, and what to do next, in one or two lines.
"""


class SmidgenError(Exception):
    """Something the user can mend; printed without a traceback, exit code 2."""


class ConfigError(SmidgenError):
    """A recipe, option or override is not valid."""


class DataError(SmidgenError):
    """Input text is missing, unreadable or empty."""


class TokenizerError(SmidgenError):
    """A tokenizer is missing, damaged or does not fit."""


class CheckpointError(SmidgenError):
    """A model directory or resume state is missing, damaged or refused."""


class BudgetError(SmidgenError):
    """The asked size or time cannot work on this machine or with this data."""


class TrainingError(SmidgenError):
    """Training must stop; the last good checkpoint is kept."""


class RunError(SmidgenError):
    """A run directory cannot be created, written or resumed."""


class MissingExtraError(SmidgenError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional package. Install it with: pip install 'smidgen[{extra}]'")
