"""The reward model as the function that other trainers call: TRL's, verl's, OpenRLHF's."""
