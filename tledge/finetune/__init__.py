"""Fine-tune the upper layers of a network on activations that its trunk computed once.

plan → trunk (a backbone: run it once over samples and views) → train (the tail, in Keras) → one backbone again
"""

from tledge.finetune import keras_model
from tledge.finetune.plan import ALL, Plan, check, plan, trunk
from tledge.finetune.tune import Epoch, FineTuneOptions, Tuned, train

__all__ = ["ALL", "Epoch", "FineTuneOptions", "Plan", "Tuned", "check", "keras_model", "plan", "train", "trunk"]
