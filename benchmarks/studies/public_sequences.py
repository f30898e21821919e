"""A public data set in the trainer's format: handwritten digits, read pixel by pixel as sessions of 64 actions.

The 1,797 digits of 8 by 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998, UCI Machine Learning
Repository, "Optical Recognition of Handwritten Digits"). Packages carry no public log of labelled user sessions, so
this stands in for one: real data, real labels, another vocabulary, sessions longer than ours and without times. An
action is a pixel's ink in six steps, in reading order; the "attack" is the digit 8. Every fifth digit is for testing.
"""

from collections.abc import Iterator
from pathlib import Path

import click
from sklearn.datasets import load_digits

from trainer.data.sessions import Session, write_sessions

ATTACK_DIGIT = 8
TEST_EVERY = 5
INK_STEP = 3


def sessions() -> Iterator[Session]:
    """Yield a session for each digit."""
    images, digits = load_digits(return_X_y=True)
    for number, (pixels, digit) in enumerate(zip(images.astype(int).tolist(), digits.tolist(), strict=True)):
        yield Session(
            session_id=f"digit-{number}",
            actions=tuple(f"INK_{pixel // INK_STEP}" for pixel in pixels),
            label=int(digit == ATTACK_DIGIT),
            split="test" if number % TEST_EVERY == 0 else "train",
            type=str(digit),
        )


@click.command(help=__doc__)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), help="JSON lines to write (.gz too).")
def main(out: Path) -> None:
    """Write it."""
    try:
        print(f"{write_sessions(out, sessions())} sessions")
    except OSError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
