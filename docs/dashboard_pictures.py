"""Take the dashboard's pictures: `.venv/bin/python docs/dashboard_pictures.py [FOLDER]`.

Without a folder, those that the documentation shows; with one, every state in light and dark, at 390 and 1440 pixels.
The page is the real one, before the tests' stand-in of an admin port.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fixtures.browser import Browser, browser, program  # noqa: E402
from fixtures.dashboard_stand_in import World, stand_in  # noqa: E402
from fixtures.dashboard_states import break_endpoints, quarantine  # noqa: E402

from dl_inference.local import try_samples  # noqa: E402

# Name, world, page, width, is it dark.
Shot = tuple[str, Callable[[], World], str, int, bool]


def with_samples() -> World:
    """Return a world whose model has the samples of models/digits."""
    world = World()
    world.samples["digits"] = try_samples.page("digits", ROOT / "models" / "digits")["samples"]
    world.answer = (200, {"jsonData": {"predictions": [{"class": "zero", "score": 0.9998}]}})
    return world


SHOWN: tuple[Shot, ...] = (
    ("dashboard", lambda: break_endpoints(World()), "#/", 1440, False),
    ("dashboard-model", lambda: quarantine(World()), "#/models/digits", 1440, True),
    ("dashboard-call", World, "#/calls/o000bda1f63903c", 1440, False),
    ("dashboard-try", with_samples, "#/try/digits", 1440, False),
    ("dashboard-narrow", lambda: break_endpoints(World()), "#/", 390, True),
)

HEARD = "import('/dashboard/live.js').then(({ live }) => [...live.models.values()].some((it) => it.recent.length > 1))"
READY = (
    "document.querySelector('main').innerText.length > 60 && [...document.querySelectorAll('.plot svg')]"
    ".every((it) => it.childElementCount > 5) && !document.querySelector('main').innerText.includes('Asking for')"
)


def every() -> Iterator[Shot]:
    """Yield each state and page in both schemes and widths."""
    states: dict[str, tuple[Callable[[], World], str]] = {
        "well": (World, "#/"),
        "broken": (lambda: break_endpoints(World()), "#/"),
        "many": (lambda: World(500, rate=3000), "#/"),
        "quarantined": (lambda: quarantine(World()), "#/"),
        "stale": (World, "#/"),
        "model": (lambda: break_endpoints(World()), "#/models/vision"),
        "folder": (lambda: quarantine(World()), "#/models/digits"),
        "calls": (World, "#/calls?failed"),
        "call": (World, "#/calls/o000bda1f63903c"),
        "sources": (lambda: break_endpoints(World()), "#/sources"),
        "config": (World, "#/config"),
        "try": (with_samples, "#/try/digits"),
    }
    for name, (make, path) in states.items():
        for is_dark in (False, True):
            for width in (390, 1440):
                yield f"{name}-{width}-{'dark' if is_dark else 'light'}", make, path, width, is_dark


def take(chromium: Browser, shot: Shot, folder: Path) -> None:
    """Take one picture."""
    name, make, path, width, is_dark = shot
    with stand_in(make(), pause_s=0.3) as served:
        page = chromium.page(width, 900, is_dark=is_dark)
        begin = "#/calls" if path.startswith("#/calls/") else path  # a call is known from the list
        page.open(served.url + begin)
        page.wait("!['loading', 'no data yet'].includes(document.querySelector('#pill').textContent)")
        if begin != path:
            page.wait("document.querySelector('tbody a')")
            page.run(f"location.hash = {path!r}")
        page.wait(READY)
        page.wait(HEARD)
        if path.startswith("#/try/"):
            page.run("document.querySelector('form button').click()")
            page.wait("document.querySelector('pre')")
        if name.startswith("stale"):
            served.go_down()
            page.wait("!document.querySelector('#stale').hidden")
        picture = Image.open(io.BytesIO(page.picture())).convert("RGB")
        file = folder / f"{name}.png"
        picture.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
        print(f"{file} {picture.width} x {picture.height}, {file.stat().st_size // 1024} KiB")
        page.close()


def main() -> None:
    """Take the pictures."""
    path = program()
    if path is None:
        sys.exit("there is no headless Chromium: apt-get install chromium-headless-shell")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    with browser(path) as chromium:
        for shot in every() if len(sys.argv) > 1 else SHOWN:
            take(chromium, shot, folder)


if __name__ == "__main__":
    main()
