"""What a run looked like, for people: HTML report, model card, plots."""
