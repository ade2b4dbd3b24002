"""MLflow, over the REST interface of a tracking server (https://mlflow.org/docs/latest/rest-api.html).

The interface is small and stable, and the package that wraps it brings a hundred megabytes to say five requests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx

from thinwire.protocol.messages import ExchangeMetrics, RunView

from .figures import TrackingError, points_of, settings_of

EXPERIMENT: Final = "thinwire"
RUN: Final = "thinwire.run"
ROUNDS: Final = "thinwire.rounds"
_API: Final = "/api/2.0/mlflow/"
_MOST_METRICS: Final = 1000
_MOST_PARAMS: Final = 100
_STATES: Final = {"completed": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class Mlflow:
    """`url`: of the tracking server. `MLFLOW_TRACKING_TOKEN`, or `MLFLOW_TRACKING_USERNAME` and
    `MLFLOW_TRACKING_PASSWORD`, say who asks, and `MLFLOW_EXPERIMENT_NAME` where the runs are put, as for MLflow's own
    programs. Raises: `TrackingError` where the URL is none.
    """

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        if not url.startswith(("http://", "https://")):
            raise TrackingError(f"mlflow:{url}: write mlflow:https://HOST, the address of a tracking server")
        token, user = environment.get("MLFLOW_TRACKING_TOKEN"), environment.get("MLFLOW_TRACKING_USERNAME")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        auth = None if token or not user else (user, environment.get("MLFLOW_TRACKING_PASSWORD", ""))
        try:
            self._http = httpx.Client(base_url=url.rstrip("/") + _API, headers=headers, auth=auth, timeout=30)
        except (httpx.InvalidURL, ValueError) as error:
            raise TrackingError(f"mlflow:{url}: {error}") from None
        self._experiment = environment.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        self._known: dict[str, tuple[str, int]] = {}

    def tell(self, view: RunView, exchanges: list[ExchangeMetrics]) -> None:
        """Adds the rounds that the server does not have. Raises: `TrackingError`."""
        name, told = self._known.get(view.id) or self._found(view) or self._created(view)
        points = [point for point in points_of(view, exchanges) if point.round > told]
        metrics = [
            {"key": key, "value": value, "timestamp": _ms(view.created_at + point.seconds), "step": point.round}
            for point in points
            for key, value in sorted(point.figures.items())
        ]
        for some in _in_parts(metrics, _MOST_METRICS):
            self._post("runs/log-batch", {"run_id": name, "metrics": some})
        if points:
            told = points[-1].round
            self._post("runs/set-tag", {"run_id": name, "key": ROUNDS, "value": str(told)})
        if view.outcome is not None:
            ended = {"status": _STATES[view.outcome], "end_time": _ms(view.finished_at or view.created_at)}
            self._post("runs/update", {"run_id": name, **ended})
        self._known[view.id] = name, told

    def _found(self, view: RunView) -> tuple[str, int] | None:
        """The server's run of this one, and the last round that it has; None where there is none."""
        query = {
            "experiment_ids": [self._experiment_id()],
            "filter": f"tags.`{RUN}` = '{view.id}'",
            "max_results": 1,
        }
        for run in self._post("runs/search", query).get("runs", []):
            tags = {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", [])}
            return str(run["info"]["run_id"]), int(tags.get(ROUNDS, -1))
        return None

    def _created(self, view: RunView) -> tuple[str, int]:
        tags = {RUN: view.id, "mlflow.runName": view.name}
        made = self._post(
            "runs/create",
            {
                "experiment_id": self._experiment_id(),
                "run_name": view.name,
                "start_time": _ms(view.created_at),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )
        name = str(made["run"]["info"]["run_id"])
        params = [{"key": key, "value": value} for key, value in settings_of(view).items()]
        for some in _in_parts(params, _MOST_PARAMS):
            self._post("runs/log-batch", {"run_id": name, "params": some})
        return name, -1

    def _experiment_id(self) -> str:
        answer = self._ask("GET", "experiments/get-by-name", params={"experiment_name": self._experiment})
        if answer.status_code == 404:
            return str(self._post("experiments/create", {"name": self._experiment})["experiment_id"])
        return str(_checked(answer)["experiment"]["experiment_id"])

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return _checked(self._ask("POST", path, json=body))

    def _ask(self, method: str, path: str, **said: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **said)
        except httpx.HTTPError as error:
            raise TrackingError(f"mlflow at {self._http.base_url.host}: {error or type(error).__name__}") from None


def _checked(answer: httpx.Response) -> dict[str, Any]:
    where = f"mlflow at {answer.url.host}"
    if not answer.is_success:
        raise TrackingError(f"{where} answers {answer.status_code}: {answer.text[:300]}")
    try:
        found: dict[str, Any] = answer.json()
    except ValueError:
        raise TrackingError(f"{where} does not answer as a tracking server") from None
    return found


def _in_parts(items: list[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    for begin in range(0, len(items), most):
        yield items[begin : begin + most]


def _ms(at: float) -> int:
    return round(1000 * at)
