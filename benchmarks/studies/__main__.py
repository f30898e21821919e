"""Run a study, or list them: `make study`."""

import ast
from importlib import import_module
from pathlib import Path

import click


class Studies(click.Group):
    """The modules of this folder, whose command is `main`; imported when they are run, since that takes seconds."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return their names."""
        return sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))

    def get_command(self, context: click.Context, name: str) -> click.Command:
        """Import one; fail with the names that there are if it is none."""
        known = self.list_commands(context)
        if name not in known:
            context.fail(f"{name} is no study: expected one of {', '.join(known)}")
        command: click.Command = import_module(f"benchmarks.studies.{name}").main
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List them with the first line of each module."""
        sources = {
            name: Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
            for name in self.list_commands(context)
        }
        with formatter.section("Studies"):
            formatter.write_dl(
                [
                    (name, str(ast.get_docstring(ast.parse(source))).partition("\n")[0])
                    for name, source in sources.items()
                ]
            )


@click.group(cls=Studies, subcommand_metavar="STUDY [ARGS]...")
def main() -> None:
    """Run what a decision or a claim on accuracy rests on."""


if __name__ == "__main__":
    main()
