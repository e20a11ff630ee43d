"""lm-evaluation-harness with our engine: `lm_eval --model smidgen --model_args path=DIR --tasks ...`.

The other way round, the harness's prompts in our evaluation, is `tasks/suite/`.
"""
