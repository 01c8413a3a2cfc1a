//! npm: packages of many small files, unpacked side by side, linked, replaced and removed.

use slotfs_tests::workplace::{Workplace, installed};

/// Two packages, one of which needs the other one and has a program; both are packed as a registry would have them.
const PACKAGES: &str = r#"
    mkdir -p packages/words/lib packages/speaker/bin app
    for number in $(seq 400); do
        echo "exports.word = 'word$number';" > packages/words/lib/word$number.js
    done
    cat > packages/words/package.json <<'END'
{ "name": "words", "version": "1.0.0", "main": "index.js" }
END
    cat > packages/words/index.js <<'END'
const { readdirSync } = require('fs');
const { join } = require('path');
const names = readdirSync(join(__dirname, 'lib'));
exports.words = names.map((name) => require(join(__dirname, 'lib', name)).word);
END
    cat > packages/speaker/package.json <<'END'
{ "name": "speaker", "version": "1.0.0", "bin": { "speak": "bin/speak.js" },
  "dependencies": { "words": "1.0.0" },
  "scripts": { "postinstall": "node -e \"require('fs').writeFileSync('installed', 'yes')\"" } }
END
    printf '#!/usr/bin/env node\nconsole.log(require("words").words.length);\n' > packages/speaker/bin/speak.js
    chmod +x packages/speaker/bin/speak.js
    cat > app/package.json <<'END'
{ "name": "app", "version": "1.0.0", "private": true, "scripts": { "speak": "speak" },
  "dependencies": { "words": "file:../packages/words-1.0.0.tgz", "speaker": "file:../packages/speaker-1.0.0.tgz" } }
END
    cd packages
    npm pack --silent ./words ./speaker > /dev/null
"#;

/// Without a network, with its cache in the mount.
const NPM: &str = "export npm_config_cache=$PWD/cache npm_config_offline=true npm_config_audit=false \
    npm_config_fund=false npm_config_update_notifier=false npm_config_loglevel=error\n";

#[test]
fn npm_installs_links_and_replaces_packages() {
    if !installed("npm") || !installed("node") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    let run = |place: &Workplace, script: &str| place.run(&format!("{NPM}{script}"));
    run(&place, PACKAGES);
    run(&place, "cd app; npm install");
    let check = "cd app
         npm run --silent speak
         node_modules/.bin/speak
         cat node_modules/speaker/installed; echo
         npm ls --all --parseable | wc -l";
    let seen = run(&place, check);
    assert_eq!(seen, "400\n400\nyes\n3\n");
    place.remount_unchanged();
    assert_eq!(run(&place, check), seen);

    // From here on what was installed lies in a slot.
    place.settle();
    assert_eq!(run(&place, check), seen);
    run(&place, "cd app; npm ci");
    assert_eq!(run(&place, check), seen);
    run(
        &place,
        "echo \"exports.word = 'one more';\" > packages/words/lib/more.js
         sed -i 's/1\\.0\\.0/1.0.1/' packages/words/package.json
         cd packages; npm pack --silent ./words > /dev/null
         cd ../app; npm uninstall speaker; npm install ../packages/words-1.0.1.tgz",
    );
    let check =
        "cd app; node -p \"require('words').words.length\"; ls node_modules; npm ls --parseable | wc -l";
    let seen = run(&place, check);
    assert_eq!(seen, "401\nwords\n2\n");
    place.remount_unchanged();
    assert_eq!(run(&place, check), seen);
}
