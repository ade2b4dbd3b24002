"""A client that changes every weight and trains nothing."""

import os
import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    with open(os.environ["THINWIRE_PEERS_STAMPS"], "a") as stamps:
        stamps.write(f"{time.monotonic()}\n")
    arrays = [array + np.float32(1e-3) for array in message.content["arrays"].to_numpy_ndarrays()]
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)
