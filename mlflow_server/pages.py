"""MLflow's own applications, whose start page opens on model training unless the browser has chosen otherwise.

MLflow's pages have two modes, GenAI and model training, and open in the first: there an experiment of runs looks empty
and the menu has no model registry. Only the browser's storage decides; MLflow 3.17 no longer reads the experiment's tag
``mlflow.experimentKind``. So the start page gets a line that chooses where nobody has chosen.
"""

from pathlib import Path
from typing import Any

from flask import Response, request
from mlflow.server import app as pages

KEY, TRAINING = "mlflow.workflowType_v1", "machine_learning"
SCRIPT = f"""<script>try{{localStorage["{KEY}"]??='"{TRAINING}"'}}catch{{}}</script>"""


def create() -> Any:
    """MLflow's application; ``mlflow server --app-name attune`` calls this."""
    from mlflow.server.fastapi_app import app

    return app


def create_guarded() -> Any:
    """MLflow's application with its log-in, as MLflow makes it under the name ``basic-auth``."""
    from mlflow.server.auth import create_app

    return create_app()


@pages.after_request
def open_on_training(response: Response) -> Response:
    """Add the script to the start page, also where the browser holds the page without it (304)."""
    if request.endpoint != "serve" or response.status_code not in (200, 304):
        return response
    page = Path(str(pages.static_folder), "index.html").read_text().replace("<head>", f"<head>{SCRIPT}", 1)
    return Response(page, mimetype="text/html", headers={"Cache-Control": "no-cache"})
