"""The one generation path: everything that samples or scores goes through Engine.step()."""
