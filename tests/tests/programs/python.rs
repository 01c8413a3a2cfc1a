//! Python environments: `venv`, `pip` and `uv` make, upgrade and remove packages, one of them with compiled code.

use slotfs_tests::workplace::{Workplace, installed};

const USE: &str = r#"
    environment/bin/python -c '
import markupsafe, six
from markupsafe import _speedups
print(six.__version__, markupsafe.escape("<b>"), _speedups.__file__.endswith(".so"))
'"#;

const UPGRADED: &str = r#"
    environment/bin/python -c '
import six
print(six.__version__)
try:
    import markupsafe
except ModuleNotFoundError:
    print("gone")
'"#;

#[test]
fn pip_fills_upgrades_and_empties_an_environment() {
    if !installed("python3") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    place.run(
        "python3 -m venv environment
         environment/bin/pip install --quiet --disable-pip-version-check six==1.16.0 MarkupSafe==3.0.2",
    );
    assert_eq!(place.run(USE), "1.16.0 &lt;b&gt; True\n");
    place.settle();
    assert_eq!(place.run(USE), "1.16.0 &lt;b&gt; True\n");
    place.run(
        "environment/bin/pip install --quiet --disable-pip-version-check --upgrade six==1.17.0
         environment/bin/pip uninstall --quiet --yes MarkupSafe
         environment/bin/pip check --disable-pip-version-check",
    );
    assert_eq!(place.run(UPGRADED), "1.17.0\ngone\n");
    place.remount_unchanged();
    assert_eq!(place.run(UPGRADED), "1.17.0\ngone\n");
    assert_eq!(place.run("find environment -iname '*markupsafe*' -o -name 'six-1.16*'"), "");
}

#[test]
fn uv_fills_upgrades_and_empties_an_environment() {
    if !installed("uv") || !installed("python3") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    // The cache lies in the mount too: uv links or clones out of it.
    let uv = "export UV_CACHE_DIR=$PWD/cache UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$PWD/environment\n";
    place.run(&format!(
        "{uv} uv venv --quiet --python \"$(command -v python3)\" environment
         uv pip install --quiet six==1.16.0 MarkupSafe==3.0.2"
    ));
    assert_eq!(place.run(USE), "1.16.0 &lt;b&gt; True\n");
    place.settle();
    place.run(&format!(
        "{uv} uv pip install --quiet --upgrade six==1.17.0
         uv pip uninstall --quiet MarkupSafe
         uv pip check --quiet"
    ));
    assert_eq!(place.run(UPGRADED), "1.17.0\ngone\n");
    place.remount_unchanged();
    assert_eq!(place.run(UPGRADED), "1.17.0\ngone\n");
    // Once more, out of the cache of before.
    place.run(&format!("{uv} uv pip install --quiet --offline MarkupSafe==3.0.2 six==1.16.0"));
    assert_eq!(place.run(USE), "1.16.0 &lt;b&gt; True\n");
}
