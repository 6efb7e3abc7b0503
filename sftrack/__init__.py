"""Follow one object through a video, live."""

from pathlib import Path

# In a source checkout gui/, trackers/ and weights/ lie beside this folder; in a wheel they lie inside it.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "gui" / "__init__.py").is_file():
    __path__.append(str(_checkout))
