"""Federated averaging as Flower's own strategy does it."""

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    given = context.run_config
    clients, elements, arrays = int(given["clients"]), int(given["elements"]), int(given["arrays"])
    random = np.random.default_rng(0)
    first = [random.standard_normal(elements // arrays, np.float32) for _ in range(arrays)]
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    strategy.start(grid=grid, initial_arrays=ArrayRecord(first), num_rounds=int(given["rounds"]))
