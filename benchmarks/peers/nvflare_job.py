"""Federated averaging by NVFlare's own recipe on its provisioned services of this machine, with mutual TLS.

`nvflare_job.py CLIENTS ROUNDS MODEL.npy CLIENT.py`; the services' folder is $NVFLARE_POC_WORKSPACE.
"""

import sys

from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.poc_env import PocEnv

clients, rounds, model, script = sys.argv[1:]
recipe = NumpyFedAvgRecipe(
    name="peer", initial_ckpt=model, min_clients=int(clients), num_rounds=int(rounds), train_script=script
)
environment = PocEnv(num_clients=int(clients))
try:
    run = recipe.execute(environment)
    print(run.get_status(), run.get_result())
finally:
    environment.stop(clean_up=False)
