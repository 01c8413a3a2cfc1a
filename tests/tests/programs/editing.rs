//! How shells and editors write: here-documents, redirections, a temporary file renamed over the old one, farms of
//! hard links that are broken one by one.

use slotfs_tests::workplace::{Workplace, installed};

#[test]
fn redirections_write_where_they_should() {
    let Some(mut place) = Workplace::new() else { return };
    let script = r#"
        mkdir -p d
        cat > d/document <<-END
		first $((1 + 1))
		second
		END
        cat >> d/document <<< third
        { echo out; echo error >&2; } > both 2>&1
        exec 3<> both; read -r line <&3; echo "$line again" >&3; exec 3>&-
        : > emptied; echo x > emptied; : > emptied
        set -o noclobber; ! echo lost > both 2> /dev/null; set +o noclobber
        mapfile -t lines < d/document; printf '%s|' "${lines[@]}" > joined
        for number in $(seq 50); do (echo "$number" >> appended) & done; wait
        printf 'B' | dd of=joined bs=1 seek=1 conv=notrunc status=none
        sort -n -o appended appended
    "#;
    let shown = "cat d/document both joined; wc -c < emptied; seq 50 | diff - appended; umask 027; echo u > umasked; stat -c %a umasked";
    let expected = "first 2\nsecond\nthird\nout\nout again\nfBrst 2|second|third|0\n640\n";
    place.run(script);
    assert_eq!(place.run(shown), expected);
    place.settle();
    place.run("rm appended");
    place.run(script);
    assert_eq!(place.run(shown), expected);
    place.remount_unchanged();
    assert_eq!(place.run(shown), expected);
}

#[test]
fn saving_by_rename_shows_the_old_or_the_new_and_nothing_else() {
    let Some(mut place) = Workplace::new() else { return };
    place.run("mkdir d; seq -f 'old %g' 2000 > d/text; chmod 640 d/text");
    place.settle();
    place.run(
        r#"
        ( while [ ! -e d/done ]; do
              text=$(cat d/text)
              count=$(wc -l <<< "$text"); kinds=$(cut -d' ' -f1 <<< "$text" | sort -u | wc -l)
              [ "$count" = 2000 ] && [ "$kinds" = 1 ] || { echo "torn: $count lines, $kinds kinds" >&2; exit 1; }
          done ) & reader=$!
        for save in $(seq 40); do
            seq -f "save$save %g" 2000 > d/.text.swp
            chmod --reference=d/text d/.text.swp
            sync d/.text.swp
            [ $((save % 2)) = 0 ] || ln -f d/text d/text~
            mv -f d/.text.swp d/text
            sync d
        done
        touch d/done; wait $reader
        sed -i 's/save40/last/' d/text
        [ "$(head -1 d/text~)" = "save38 1" ]
        "#,
    );
    let shown = "ls -A d; head -1 d/text; stat -c '%a %h' d/text d/text~";
    let expected = "done\ntext\ntext~\nlast 1\n640 1\n640 1\n";
    assert_eq!(place.run(shown), expected);
    place.remount_unchanged();
    assert_eq!(place.run(shown), expected);
}

#[test]
fn a_farm_of_hard_links_keeps_its_counts() {
    let Some(mut place) = Workplace::new() else { return };
    place.run(
        "mkdir -p tree/sub && for n in $(seq 40); do echo $n > tree/sub/$n; done
         cp -al tree farm && cp -al tree third",
    );
    let count = "find tree farm third -type f -printf '%n\\n' | sort | uniq -c | sed 's/^ *//'";
    assert_eq!(place.run(count), "120 3\n");
    place.settle();
    assert_eq!(place.run(count), "120 3\n");
    // Written through one name, seen under all; replaced under one name, kept under the others.
    place.run(
        "for n in $(seq 1 10); do echo more >> tree/sub/$n; done
         for n in $(seq 11 20); do sed -i s/1/one/ farm/sub/$n; done
         for n in $(seq 21 30); do rm third/sub/$n; done
         cp -al farm fourth
         mv third moved
         chmod 600 moved/sub/31",
    );
    let state = "
        find . -type f -printf '%n\\n' | sort | uniq -c | sed 's/^ *//'
        cmp tree/sub/5 moved/sub/5; cmp farm/sub/5 fourth/sub/5; cat farm/sub/5
        [ tree/sub/5 -ef moved/sub/5 ] && [ tree/sub/31 -ef fourth/sub/31 ] && [ ! tree/sub/15 -ef farm/sub/15 ]
        stat -c %a farm/sub/31
        cat tree/sub/11 farm/sub/11";
    // 1 to 10 and 31 to 40 have four names; 11 to 20 two and two; 21 to 30 three.
    let expected = "40 2\n30 3\n80 4\n5\nmore\n600\n11\none1\n";
    assert_eq!(place.run(state), expected);
    place.remount_unchanged();
    assert_eq!(place.run(state), expected);
    place.run("rm -r tree farm fourth");
    assert_eq!(place.run("find . -type f -printf '%n\\n' | sort | uniq -c | sed 's/^ *//'"), "30 1\n");
    place.remount_unchanged();
    place.settle();
    assert_eq!(place.run("cat moved/sub/5"), "5\nmore\n");
}

#[test]
fn processes_share_memory_through_a_file() {
    if !installed("python3") {
        return;
    }
    let Some(mut place) = Workplace::new() else { return };
    let script = r#"
        python3 - <<'END'
import mmap, os, multiprocessing as processes, struct
SIZE, WRITERS = 1 << 20, 4
def write(number):
    with open("shared", "r+b") as file, mmap.mmap(file.fileno(), SIZE) as memory:
        for place in range(number * 8, SIZE, WRITERS * 8):
            value, = struct.unpack_from("<Q", memory, place)
            struct.pack_into("<Q", memory, place, value + place)
        memory.flush()
if not os.path.exists("shared"):
    with open("shared", "wb") as file:
        file.truncate(SIZE)
workers = [processes.Process(target=write, args=(number,)) for number in range(WRITERS)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
assert all(worker.exitcode == 0 for worker in workers)
END"#;
    let sums = r#"
        python3 - <<'END'
import struct
content = open("shared", "rb").read()
factors = {value // place for place, (value,) in zip(range(8, len(content), 8), struct.iter_unpack("<Q", content[8:]))}
print(len(content), factors)
END"#;
    place.run(script);
    assert_eq!(place.run(sums), "1048576 {1}\n");
    place.settle();
    place.run(script);
    assert_eq!(place.run(sums), "1048576 {2}\n");
    place.remount_unchanged();
    assert_eq!(place.run(sums), "1048576 {2}\n");
}
