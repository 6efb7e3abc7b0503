"""Whether a window can be shown here. Qt aborts the process where it cannot, so this is asked before Qt is."""

import ctypes
import ctypes.util
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from sftrack.errors import SFTrackError

QT_PACKAGES = "libgl1 libglib2.0-0 libfontconfig1 libdbus-1-3"
"""Debian and Ubuntu packages with the libraries that every PyQt5 needs and does not bring along."""

XCB_PACKAGES = (
    "libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxkbcommon-x11-0"
)
"""The same for Qt's X11 plugin."""


class DisplayError(SFTrackError):
    """No window can be shown: PyQt5, a display, or a library that Qt needs is missing."""


def require_display() -> None:
    """Raise `DisplayError` with the remedy where no window can be shown."""
    reason = why_not_shown()
    if reason is not None:
        raise DisplayError(f"{reason}, or go on without a window: --headless --box x,y,w,h")


def why_not_shown(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str | None:
    """Why no window can be shown, in one line with the remedy; None where one can."""
    if importlib.util.find_spec("PyQt5") is None:
        return 'the viewer needs PyQt5, which is not installed; run: pip install "sftrack[gui]"'
    return _why_no_display(environ, platform) or _why_qt_does_not_load()


def _why_no_display(environ: Mapping[str, str], platform: str) -> str | None:
    chosen = environ.get("QT_QPA_PLATFORM", "")
    if not platform.startswith("linux") or (chosen and not chosen.startswith("xcb")):
        return None
    if environ.get("WAYLAND_DISPLAY") and not chosen:
        return None
    address = environ.get("DISPLAY", "")
    if not address:
        return "the viewer needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set; start it from a desktop session"
    return _why_no_x11(address)


def _why_qt_does_not_load() -> str | None:
    try:
        importlib.import_module("PyQt5.QtWidgets")
    except ImportError as error:
        return f"PyQt5 cannot be loaded ({error}); on Debian or Ubuntu run: apt-get install {QT_PACKAGES}"
    return None


def _why_no_x11(address: str) -> str | None:
    """Why the X server cannot be used, None if it can."""
    if not _x_server_answers(address):
        return f"the viewer needs a display, and the X server '{address}' (from DISPLAY) does not answer; start it from a desktop session"
    spec = importlib.util.find_spec("PyQt5")
    folders = (spec.submodule_search_locations or []) if spec else []
    for plugin in (Path(folder) / "Qt5" / "plugins" / "platforms" / "libqxcb.so" for folder in folders):
        if plugin.is_file():
            try:
                ctypes.CDLL(str(plugin))
            except OSError as error:
                return f"Qt's X11 plugin cannot be loaded ({error}); on Debian or Ubuntu run: apt-get install {XCB_PACKAGES}"
    return None


def _x_server_answers(address: str) -> bool:
    """Try a connection through libxcb; True where there is no libxcb to try with."""
    name = ctypes.util.find_library("xcb")
    if name is None:
        return True
    try:
        xcb = ctypes.CDLL(name)
    except OSError:
        return True
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(address.encode(), None)
    answered = xcb.xcb_connection_has_error(connection) == 0
    xcb.xcb_disconnect(connection)
    return bool(answered)


def forget_opencv_qt(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove the paths that a full opencv-python sets on import: PyQt5 would load OpenCV's own Qt plugins and die.

    Paths that the user has set to something else are kept.
    """
    for name in ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR", "QT_PLUGIN_PATH"):
        if "cv2" in Path(environ.get(name, "")).parts:
            del environ[name]
