"""Training: from labelled sessions to one model file. The only part of the project that needs TensorFlow."""
