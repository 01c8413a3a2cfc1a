"""Makes the demo's package: a Python application with NumPy and a dozen other wheels.

Run by `scripts/demo` with the Python in which FlavorPack is installed.
"""

import shutil
import sys
from pathlib import Path

from application import pack_application
from builders import Tools

DEPENDENCIES = ["numpy", "pandas", "attrs", "click", "jinja2", "pyyaml", "requests", "rich"]

PROGRAM = '''\
import sys
from importlib import metadata


def main():
    """Fits a line through noisy points, and says with how many libraries."""
    import attrs, click, jinja2, numpy, pandas, requests, rich, yaml

    generator = numpy.random.default_rng(2025)
    x = numpy.linspace(0, 10, 100_000)
    frame = pandas.DataFrame({"x": x, "y": 2 * x + 1 + generator.normal(size=x.size)})
    slope, intercept = numpy.polyfit(frame.x, frame.y, 1)
    installed = len(list(metadata.distributions()))
    page = jinja2.Template("y = {{ slope }} x + {{ intercept }}  ({{ count }} libraries; given {{ given }})")
    print(page.render(slope=f"{slope:.2f}", intercept=f"{intercept:.2f}", count=installed, given=sys.argv[1:]))
    return 0
'''


def main():
    output = Path(sys.argv[1]).absolute()
    work = output.parent / "work"
    work.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".unfinished")
    pack_application(Tools(work), work, unfinished, "demoapp", DEPENDENCIES, PROGRAM, try_download=True)
    unfinished.rename(output)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
