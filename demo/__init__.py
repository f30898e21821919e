"""The demonstration: broker, detector and simulator started together, and their alerts shown as they arrive."""
