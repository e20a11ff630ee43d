"""Adapting a model that exists: a task, an adapter, a way to learn, and an honest account of what came of it.

Each step is a room below: `tasks` asks, `surgery` attaches, `training` learns, `evaluation` measures. Base, few-shot
control and adapted model answer the same questions, because most of what looks like learning is form (users.md #7).
"""
