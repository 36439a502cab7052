"""A transformers.Trainer that knows pairs: its configuration, checkpoints and alarms."""
