"""A public data set in the trainer's format: handwritten digits, read pixel by pixel as sessions of 64 actions.

The 1,797 digits of 8 by 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998, UCI Machine Learning
Repository, "Optical Recognition of Handwritten Digits"). Packages carry no public log of labelled user sessions, so
this stands in for one: real data, real labels, another vocabulary, sessions longer than ours and without times. An
action is a pixel's ink in six steps, in reading order; the "attack" is the digit 8. Every fifth digit is for testing.

    python -m benchmarks.studies.public_sequences digits.jsonl.gz
    python -m trainer train --data digits.jsonl.gz --window 64 --out digits.onnx
    python -m trainer evaluate --model digits.onnx --data digits.jsonl.gz
"""

import sys
from collections.abc import Iterator
from pathlib import Path

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


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004  the program and its one argument
        sys.exit("one file was expected: python -m benchmarks.studies.public_sequences digits.jsonl.gz")
    print(f"{write_sessions(Path(sys.argv[1]), sessions())} sessions")
