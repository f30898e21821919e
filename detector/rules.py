"""The command `python -m detector rules`: what a rules file comes to under a model, without a broker."""

from pathlib import Path

import click

from detector.model.artifact import Model, ModelRefusedError, load_model, resolve_model_path
from detector.model.rules import Rules, RulesRefusedError, load_rules
from detector.model.variables import as_told, variables_of


def rules_of(path: str | Path | None, model: Model) -> Rules | None:
    """Load the rules that an option names for a model; None if it names none.

    Raises:
        click.UsageError: they don't fit.
    """
    try:
        return load_rules(Path(path), model.encoding) if path else None
    except RulesRefusedError as error:
        raise click.UsageError(str(error)) from error


@click.command("rules")
@click.option(
    "--model",
    "model_path",
    type=click.Path(path_type=Path),
    help="Model file, or a packaged model: default, history, seed.  [default: default]",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
def rules_command(*, model_path: Path | None, file: Path | None) -> None:
    """Check the rules in FILE against a model, and tell what each does; without FILE, list what conditions may name.

    Exit code 2 tells that the file is refused: the rule, the line and the reason are said.
    """
    try:
        model = load_model(resolve_model_path(model_path or "default"))
    except ModelRefusedError as error:
        raise click.ClickException(str(error)) from error
    if rules := rules_of(file, model):
        for one in rules.rules:
            what = f"{one.then.value} {'in shadow' if one.shadow else 'acts'}"
            click.echo(f"{what:<20}{one.told.removeprefix('rule ')}")
        click.echo(f"{len(rules.rules)} rules fit model {model.reference.name} {model.reference.version}")
        return
    for variable in variables_of(model.encoding):
        values = [as_told(one) for one in dict.fromkeys(variable.values) if one is not None]
        click.echo(f"{variable.name:<40}{variable.type:<10}{', '.join(values)}".rstrip())
