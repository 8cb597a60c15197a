"""Opens every page of site/ in Chromium, at two widths, light and dark, and says what is wrong with it.

    scripts/docs && python scripts/pages.py             # Chromium is looked for in the PATH
    python scripts/pages.py --pictures site-pictures    # and takes a picture of each page

Wrong are pages that scroll sideways, text that is cut off, pictures that are missing, and text that stands out
less from its background than WCAG 2.1 AA asks for. Needs bash and Chromium, which is spoken to through two pipes.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

SITE = Path(__file__).parents[1] / "site"
WIDTHS = (1280, 390)
"""Of a desk and of a telephone."""
AT_FIRST = """
try { localStorage.clear() } catch {}  // the site keeps the scheme that it was opened in
addEventListener("DOMContentLoaded", () => {
  const still = document.createElement("style");
  still.textContent = "* { transition: none !important; animation: none !important }";
  document.head.append(still);
});
"""
FAULTS = """
(() => {
  const faults = new Set(), pale = new Map();
  const wide = document.scrollingElement.scrollWidth - innerWidth;
  if (wide > 0) faults.add(`scrolls sideways by ${wide} px`);
  const parse = colour => {
    const numbers = colour.match(/[\\d.]+/g).map(Number);
    return {rgb: numbers.slice(0, 3), alpha: numbers[3] ?? 1};
  };
  const over = (top, below) => top.rgb.map((v, n) => v * top.alpha + below[n] * (1 - top.alpha));
  const background = element => {
    if (!element) return [255, 255, 255];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own.alpha === 1 ? own.rgb : over(own, background(element.parentElement));
  };
  const luminance = rgb => rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const named = element => `"${element.textContent.trim().replace(/\\s+/g, " ").slice(0, 40)}"`;
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth) faults.add(`lacks the picture ${image.src}`);
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element);
    const text = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    const shown = element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    if (!text || !box.width || !box.height || !shown) continue;
    for (let around = element; around !== document.body; around = around.parentElement) {
      const outer = around.parentElement.getBoundingClientRect();
      const overflow = getComputedStyle(around.parentElement).overflowX;
      if (["auto", "scroll"].includes(overflow)) break;
      if (["hidden", "clip"].includes(overflow) && outer.width && box.left < outer.right && box.right > outer.right + 1)
        faults.add(`cuts off ${named(element)}`);
    }
    const below = background(element);
    const [bright, dark] = [luminance(over(parse(style.color), below)), luminance(below)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const asked = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const contrast = (bright + 0.05) / (dark + 0.05);
    const kind = `<${element.tagName.toLowerCase()} class="${element.className}">`;
    if (contrast < asked && !pale.has(kind))
      pale.set(kind, `has a contrast of ${contrast.toFixed(1)} in ${named(element)}, ${kind}`);
  }
  return [...faults, ...pale.values()];
})()
"""


class Browser:
    """A Chromium without a window, which is spoken to in JSON messages, each ended by a zero byte."""

    def __init__(self, profile: str) -> None:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if program is None:
            sys.exit("Chromium is not in the PATH")
        (its_in, out), (in_, its_out) = os.pipe(), os.pipe()
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--remote-debugging-pipe")
        command = f'exec "$0" "$@" 3<&{its_in} 4>&{its_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *options, f"--user-data-dir={profile}"],
            pass_fds=(its_in, its_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(its_in)
        os.close(its_out)
        self._out, self._in = os.fdopen(out, "wb", buffering=0), os.fdopen(in_, "rb")
        self._received = b""
        self._events: set[str] = set()
        self._count = 0
        self._session = ""
        page = self.ask("Target.createTarget", url="about:blank")
        self._session = self.ask("Target.attachToTarget", flatten=True, **page)["sessionId"]
        self.ask("Page.enable")
        self.ask("Page.addScriptToEvaluateOnNewDocument", source=AT_FIRST)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def open(self, address: str, scheme: str, width: int) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self._load("about:blank")  # or the page before it would answer to the scheme
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._load(address)

    def evaluate(self, expression: str) -> Any:
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"]["value"]

    def picture(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)

    def _load(self, address: str) -> None:
        self._events.clear()
        self.ask("Page.navigate", url=address)
        while "Page.loadEventFired" not in self._events:
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            received = self._in.read1()
            if not received:
                raise RuntimeError("Chromium has ended")
            self._received += received
        message, _, self._received = self._received.partition(b"\0")
        answer = dict(json.loads(message))
        self._events.add(answer.get("method", ""))
        return answer


def faults(site: Path, pictures: Path | None) -> Iterator[str]:
    pages = sorted(page.relative_to(site).as_posix() for page in site.rglob("*.html"))
    if not pages:
        sys.exit(f"there are no pages in {site}; scripts/docs makes them")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile, _served(site) as root:
        browser = Browser(profile)
        try:
            for page in pages:
                yield from _faults_of(browser, f"{root}/{page}", page.removesuffix(".html"), pictures)
        finally:
            browser.close()
    print(f"{len(pages)} pages were opened")


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Address of a folder on a server of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not told."""


def _faults_of(browser: Browser, address: str, name: str, pictures: Path | None) -> Iterator[str]:
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            browser.open(address, scheme, width)
            yield from (f"{name}, {width} px, {scheme}: {fault}" for fault in browser.evaluate(FAULTS))
            if pictures and scheme == "light":
                (pictures / f"{name.replace('/', '-')}-{width}.png").write_bytes(browser.picture())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, default=SITE)
    parser.add_argument("--pictures", type=Path, help="a folder")
    arguments = parser.parse_args()
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    found = 0
    for fault in faults(arguments.site.resolve(), arguments.pictures):
        print(fault, flush=True)
        found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
