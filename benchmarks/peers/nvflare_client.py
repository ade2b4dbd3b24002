"""A client that changes every weight and trains nothing, by NVFlare's client interface."""

import os
import time

import numpy as np
import nvflare.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    with open(os.environ["THINWIRE_PEERS_STAMPS"], "a") as stamps:
        stamps.write(f"{time.monotonic()}\n")
    changed = {name: np.asarray(array) + np.float32(1e-3) for name, array in model.params.items()}
    flare.send(flare.FLModel(params=changed, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
