"""The same work in Flower's simulation, by its own strategy and its default backend; run in Flower's environment.

`python flower_app.py train|idle CLIENTS ROUNDS`
"""

import sys
from pathlib import Path

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

HERE = str(Path(__file__).parent)
WORK, CLIENTS, ROUNDS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client, server = ClientApp(), ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    arrays = message.content["arrays"]
    if WORK == "idle":
        changed = ArrayRecord([array + np.float32(1e-3) for array in arrays.to_numpy_ndarrays()])
    else:
        changed = ArrayRecord(_trained(arrays.to_torch_state_dict(), int(context.node_config["partition-id"])))
    content = RecordDict({"arrays": changed, "metrics": MetricRecord({"num-examples": 20})})
    return Message(content=content, reply_to=message)


def _trained(state: dict, index: int) -> dict:
    sys.path.insert(0, HERE)
    import train_task as task

    torch.set_num_threads(1)
    torch.manual_seed(index)
    model = task.model()
    model.load_state_dict(state)
    optimizer = torch.optim.SGD(model.parameters(), lr=task.LR, momentum=task.MOMENTUM)
    inputs, targets = task.examples(index)
    order = torch.randperm(task.EXAMPLES)
    for chosen in order.split(task.BATCH):
        optimizer.zero_grad()
        task.loss(model(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
    return model.state_dict()


@server.main()
def main(grid: Grid, context: Context) -> None:
    if WORK == "idle":
        random = np.random.default_rng(0)
        first = ArrayRecord([random.standard_normal((200, 200)).astype(np.float32) for _ in range(10)])
    else:
        sys.path.insert(0, HERE)
        import train_task as task

        first = ArrayRecord(task.model().state_dict())
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
    strategy.start(grid=grid, initial_arrays=first, num_rounds=ROUNDS, timeout=600)


run_simulation(
    server, client, num_supernodes=CLIENTS, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
)
