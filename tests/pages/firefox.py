"""Debian's Firefox without a window, spoken to in WebDriver BiDi: it needs no further program."""

import base64
import contextlib
import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SETTINGS = {
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}


def program():
    return shutil.which("firefox-esr") or shutil.which("firefox")


def missing():
    """What of Firefox is not here, or an empty text."""
    if importlib.util.find_spec("websocket") is None:
        return "the Python package websocket-client is not installed"
    return "" if program() else "firefox-esr is not installed"


class Firefox:
    """One window. ``text``, ``open`` and ``picture`` are all that the tests need."""

    def __init__(self, socket):
        self._socket, self._count = socket, 0
        self._ask("session.new", capabilities={})
        self._window = self._ask("browsingContext.getTree")["contexts"][0]["context"]

    def _ask(self, method, **params):
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._count:
                if answer["type"] == "error":
                    raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]

    def size(self, width, height):
        viewport = {"width": width, "height": height}
        self._ask("browsingContext.setViewport", context=self._window, viewport=viewport)

    def open(self, url):
        self._ask("browsingContext.navigate", context=self._window, url=url, wait="complete")

    def run(self, expression):
        """The value of an expression of JavaScript, which may be a promise."""
        result = self._ask(
            "script.evaluate",
            expression=expression,
            target={"context": self._window},
            awaitPromise=True,
        )
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return result["result"]

    def picture(self, expression):
        """A PNG of the element that an expression gives."""
        element = {"sharedId": self.run(expression)["sharedId"]}
        clip = {"type": "element", "element": element}
        answer = self._ask("browsingContext.captureScreenshot", context=self._window, clip=clip)
        return base64.b64decode(answer["data"])


@contextlib.contextmanager
def opened(dark):
    """Firefox on a system whose theme is dark, or light."""
    import websocket

    # A value of 0 means dark, 1 means light.
    settings = {
        **SETTINGS,
        "ui.systemUsesDarkTheme": int(dark),
        "layout.css.prefers-color-scheme.content-override": int(not dark),
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in settings.items()]
        Path(profile, "user.js").write_text("\n".join(lines))
        process = subprocess.Popen(
            [program(), "--headless", "--no-remote", "--remote-debugging-port", "0",
             "--profile", profile],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if address := re.search(r"BiDi listening on (ws://\S+)", line):
                    break
            else:
                raise RuntimeError(f"Firefox did not start: {''.join(said)[-500:]}")
            socket = websocket.create_connection(
                f"{address[1]}/session", suppress_origin=True, timeout=120
            )
            yield Firefox(socket)
            socket.close()
        finally:
            process.terminate()
            process.wait()
