"""Copies the embedded broker's jars, and kafka-topics' own, into a folder: `kafka_jars.py FOLDER`, from the root."""  # noqa: INP001 - a script

import shutil
import sys
from pathlib import Path

from jgo.maven import MavenContext

sys.path.insert(0, str(Path.cwd()))
from broker.jars import KAFKA_VERSION, class_path

folder = Path(sys.argv[1])
tools = (
    MavenContext().project("org.apache.kafka", "kafka-tools").at_version(KAFKA_VERSION).artifact().resolve()
)
for jar in [*class_path(), tools]:
    shutil.copyfile(jar, folder / jar.name)
