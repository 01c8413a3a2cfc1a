//! Git: commit, branch, merge, clone, gc and fsck. It maps its packs, links its objects and trusts inode numbers.

use slotfs_tests::workplace::{Workplace, installed};

const SETTINGS: &str = "
    git config --global user.name Tester
    git config --global user.email tester@example.org
    git config --global init.defaultBranch main
    git config --global gc.autoDetach false
";

const HISTORY: &str = r#"
    git init -q repository
    cd repository
    for number in $(seq 60); do
        mkdir -p "folder$((number % 7))"
        seq "$number" $((number * 20)) > "folder$((number % 7))/file$number"
        git add -A
        git commit -q -m "change $number"
    done
    git switch -q -c side HEAD~20
    seq 500 > side
    git add side
    git commit -q -m side
    git switch -q main
    git merge -q -m merged side
    git tag -a -m first v1
"#;

/// Nothing differs, without git being allowed to look closer than at `lstat(2)`.
const UNTOUCHED: &str = "git -C repository diff-files --quiet && git -C repository status --porcelain";

#[test]
fn a_repository_is_made_cloned_packed_and_checked() {
    if !installed("git") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    place.run(SETTINGS);
    place.run(HISTORY);
    place.run(
        "git clone -q repository clone
         git clone -q --no-hardlinks repository copy
         git -C repository gc -q
         for each in repository clone copy; do git -C $each fsck --strict --no-progress; done",
    );
    assert_eq!(place.run(UNTOUCHED), "");
    let head = place.run("git -C repository rev-parse HEAD");
    // What git has kept of every file's inode number and times holds after a remount.
    place.remount_unchanged();
    assert_eq!(place.run(UNTOUCHED), "");

    // From here on the repository lies in a slot.
    place.settle();
    assert_eq!(place.run("git -C repository status --porcelain"), "");
    assert_eq!(place.run("git -C repository rev-parse HEAD"), head);
    place.run(
        "cd repository
         git rm -q -r folder1
         git mv folder2 moved
         echo more >> folder3/file3
         git commit -q -a -m changed
         git repack -q -a -d
         git gc -q --prune=now --aggressive
         git stash list
         echo unfinished >> folder3/file3
         git stash -q
         git worktree add -q ../tree side
         git -C ../clone pull -q
         git -C ../copy fetch -q
         git -C ../copy reset -q --hard origin/main
         git stash pop -q
         git checkout -q folder3/file3",
    );
    let check = "
        git -C repository fsck --strict --no-progress
        git -C clone fsck --strict --no-progress
        git -C tree status --porcelain
        [ \"$(git -C repository rev-parse HEAD)\" = \"$(git -C clone rev-parse HEAD)\" ]
        [ \"$(git -C repository rev-list --all --count)\" -ge 63 ]
        [ ! -e copy/folder1 ] && [ -e copy/moved/file2 ]";
    place.run(check);
    assert_eq!(place.run(UNTOUCHED), "");
    place.remount_unchanged();
    place.run(check);
    assert_eq!(place.run(UNTOUCHED), "");
}

/// 10,000 commits on one branch, as `git fast-import` takes them.
const LONG_HISTORY: &str = r#"
    git init -q long
    awk 'BEGIN {
        for (i = 1; i <= 10000; i++) {
            printf "commit refs/heads/main\nmark :%d\n", i
            printf "committer Tester <tester@example.org> %d +0000\ndata <<END\nchange %d\nEND\n", 1600000000 + i * 60, i
            if (i > 1) printf "from :%d\n", i - 1
            printf "M 100644 inline folder%d/file%d\ndata <<END\n%d\nEND\n\n", i % 50, i % 700, i
        }
        print "done"
    }' | git -C long fast-import --quiet --done
    git -C long checkout -q main
"#;

#[test]
fn a_history_of_ten_thousand_commits_is_imported_branched_packed_and_checked() {
    if !installed("git") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    place.run(SETTINGS);
    place.run(LONG_HISTORY);
    assert_eq!(place.run("git -C long rev-list --count main"), "10000\n");
    let check = "
        git -C long fsck --strict --no-progress
        git -C long status --porcelain
        git -C long log --format=%s -n 1 main
        git -C long rev-list --all --count";
    place.run(
        "cd long
         git switch -q -c side HEAD~5000
         for number in $(seq 50); do echo side > side$number; git add -A; git commit -q -m \"side $number\"; done
         git switch -q main
         git merge -q -m merged side
         git branch -q -m side kept
         git gc -q",
    );
    let seen = place.run(check);
    assert_eq!(seen, "merged\n10051\n");
    place.remount_unchanged();
    assert_eq!(place.run(check), seen);

    // From here on it lies in a slot.
    place.settle();
    assert_eq!(place.run(check), seen);
    place.run(
        "git clone -q long other
         cd long
         git branch -q -D kept
         git commit -q --allow-empty -m last
         git repack -q -a -d -f --window=2
         git reflog expire --expire=now --all
         git gc -q --prune=now
         git -C ../other pull -q --ff-only",
    );
    let check = "
        for each in long other; do git -C $each fsck --strict --no-progress; git -C $each status --porcelain; done
        [ \"$(git -C long rev-parse HEAD)\" = \"$(git -C other rev-parse HEAD)\" ]
        git -C other log --format=%s -n 1";
    assert_eq!(place.run(check), "last\n");
    place.remount_unchanged();
    assert_eq!(place.run(check), "last\n");
}
