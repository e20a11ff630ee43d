"""What is minimised: functions from a model and a batch to a summed loss."""
