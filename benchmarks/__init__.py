"""Performance and quality beside peers, as ratios in one run. Never imported by the package."""
