"""The command line: a table of verbs, each imported only when it is used, and one way to fail.

Whatever a person can mend is one or two lines on stderr and exit code 2. A traceback means a bug of ours;
SMIDGEN_DEBUG=1 shows one for every error.
"""

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

from smidgen import __version__
from smidgen.errors import ConfigError, RunError, SmidgenError

VERBS = {
    "train": "Train a model on a folder of text, by a recipe, or on the embedded village",
    "data": "Clean, deduplicate, mix and encode messy text by a pipeline file",
    "plan": "Show every decision `train` would take, and run nothing",
    "chat": "Talk with a model in the terminal",
    "generate": "Continue a text",
    "eval": "Measure a model: bits per byte, questions of tasks",
    "compare": "Say whether one evaluated model is better than another, item by item",
    "leaderboard": "Write one page of all models below a folder: scores against size and time",
    "adapt": "Let a model learn a task: a few numbers, by reinforcement learning or otherwise",
    "merge": "Fold an adapter into its base, or write it in PEFT's form",
    "study": "Compare variants of a recipe: equal budgets, several seeds, one table",
    "inspect": "Show a model's parts: parameters, bytes, FLOPs and memory per symbol",
    "pull": "Fetch a pretrained model, by catalogue name or hub id",
    "report": "Write a run's report.html anew",
    "doctor": "Show what this machine offers and what would be used",
}
"""Verb and what it does; the code of a verb is `command` in `smidgen/commands/VERB.py`."""
TURNS_BEFORE_SLEEP = "30000"
"""Turns that a thread of GNU OpenMP waits awake. By itself it waits 300,000, which takes the core from the thread that
is waited for wherever something else runs as well: on two busy cores 30 products of one row by 1536 x 576 took 230 ms
for 17 with 10,000, and four of 512 rows 118 for 34. But a thread that sleeps is slow to wake: on quiet cores a symbol
of SmolLM2-135M took 38 ms with 10,000 (57 for eight rows with adapters), 33 and 43 with 30,000, 31 and 43 by itself."""


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit code. Raises SmidgenError for what the user can mend."""
    verb, *rest = arguments or ["--help"]
    if verb == "help":
        verb, *rest = [*rest, "--help"]
    if verb in ("-h", "--help"):
        click.echo(overview())
        return 0
    if verb == "--version":
        click.echo(f"smidgen {__version__}")
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        raise ConfigError(
            f"{verb!r} is not a verb. " + (f"Did you mean '{near[0]}'?" if near else "See: smidgen --help")
        )
    command = importlib.import_module(f"smidgen.commands.{verb}").command
    code = command.main(rest, prog_name=f"smidgen {verb}", standalone_mode=False)
    return code if isinstance(code, int) else 0


def overview() -> str:
    """Return the help of the whole program."""
    page = click.HelpFormatter(width=100)
    page.write_usage("smidgen", "VERB [ARGUMENTS]...")
    page.write_paragraph()
    page.write_text("Super-tiny language models: from a folder of text to one you can talk to.")
    with page.section("Verbs"):
        page.write_dl(list(VERBS.items()))
    with page.section("Options"):
        page.write_dl(
            [("--version", "Show the version"), ("--help", "Show this page; smidgen VERB --help that of a verb")]
        )
    return page.getvalue().rstrip()


def share_the_cores() -> None:
    """Let threads that wait for one another sleep soon, unless the environment says how they shall wait.

    To be called before torch is imported, whose OpenMP reads it once.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", TURNS_BEFORE_SLEEP)


def main() -> None:
    """Run the program's command line and leave the process with an exit code."""
    share_the_cores()
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except click.ClickException as error:
        code = _refuse(error.format_message(), error)
    except SmidgenError as error:
        code = _refuse(str(error), error)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted.", err=True)
        code = 130
    except BrokenPipeError:
        # The reader of our output left, as `| head` does. Python would complain once more while closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _refuse(str(_explain(error)), error)
    sys.exit(code)


def _refuse(message: str, error: Exception) -> int:
    if os.environ.get("SMIDGEN_DEBUG"):
        raise error
    click.echo(f"smidgen: {message}", err=True)
    return 2


def _explain(error: OSError) -> RunError:
    """Say what the operating system refused. Raises the error again if that is nothing a user could mend."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{place}the disk is full. Free some space and give the same command again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunError(f"{place}{(error.strerror or 'no access').lower()}. Choose a place you may read and write.")
    raise error


if __name__ == "__main__":
    main()
