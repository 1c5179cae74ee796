"""What is asked to see whether answers go round in circles: eight prompts that want a long answer. Knows no model."""

from __future__ import annotations

ANSWER_TOKENS = 512
PROMPTS = (
    "Explain how a refrigerator works, step by step, to someone who has never studied physics.",
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "Write a Python class for a bank account with deposit, withdraw and a history, and explain each method.",
    "List ten ways to save electricity at home. Give a reason for each.",
    "Compare travelling by train and by plane. Which is better for what?",
    "Write a letter to a landlord who has not repaired the heating for three weeks.",
    "Describe the water cycle, and why it matters to a farmer.",
    "Plan a week of simple dinners for a family of four, with what has to be bought.",
)
