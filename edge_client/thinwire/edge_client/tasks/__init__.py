"""What is learnt: a user's task file, or one of the built-in tasks."""

from __future__ import annotations

from .built_in import TASKS, TaskOptions, find_task
from .task_file import LearningTask, TaskFileError, load_task_file

__all__ = ["TASKS", "LearningTask", "TaskFileError", "TaskOptions", "find_task", "load_task_file"]
