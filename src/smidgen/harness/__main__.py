"""`python -m smidgen.harness` is `lm_eval` in which `--model smidgen` is known, whatever the environment."""

from smidgen.errors import MissingExtraError
from smidgen.harness.announce import announce


def main() -> None:
    """Announce the model and hand over to the harness's own command line."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError:
        raise SystemExit(f"smidgen: {MissingExtraError('Evaluating with lm-eval', 'harness')}") from None
    announce()
    cli_evaluate()


if __name__ == "__main__":
    main()
