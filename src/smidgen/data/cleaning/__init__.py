"""From messy text to text worth training on: one small pure file a step, told and counted; knows no executor."""
