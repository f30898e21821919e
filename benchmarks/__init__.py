"""Measurements, side by side: `make bench`, `make bench-check`."""

import os

# One core each for whatever multiplies matrices, as for the scorer. Read when the libraries load.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
