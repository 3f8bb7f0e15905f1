"""Raw data files into canonical rows, one module a form.

    instructions   alpaca  sharegpt  messages  prompt_completion   → Instruction
    preferences    pairs  rankings                                 → Ranking
    prompts        questions  chats                                → Prompt
    evaluation     evaluation                                      → Case

The form of a row is recognised by its keys, never by a file's name or suffix. A row that fits none, or lacks
something, is a Problem that says where it is and what to do; the rest of the file is read all the same.
"""

from tasks.formats.read import Read, read_evaluation, read_instructions, read_preferences, read_prompts
from tasks.formats.rows import Case, Instruction, Problem, Prompt, Ranking

__all__ = [
    "Case",
    "Instruction",
    "Problem",
    "Prompt",
    "Ranking",
    "Read",
    "read_evaluation",
    "read_instructions",
    "read_preferences",
    "read_prompts",
]
