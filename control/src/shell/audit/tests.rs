use super::*;

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("towpath-audit-{name}-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

fn note(audit: &Audit, what: &str) {
    audit.note(&Entry {
        who: "uid 0",
        address: "unix",
        what,
        result: "done",
    });
}

/// Three lines, then something is done to the file.
fn check(name: &str, change: impl FnOnce(&str) -> String, expected: Option<&str>) {
    let directory = scratch(name);
    let audit = Audit::open(&directory);
    for what in ["one", "two", "three"] {
        note(&audit, what);
    }
    let path = directory.join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(&text)).unwrap();
    // The daemon that wrote it, and one that starts behind it.
    for audit in [audit, Audit::open(&directory)] {
        let problem = audit.verify().problem;
        let problem = problem.as_deref().map(|text| {
            let place = directory.to_str().unwrap();
            text.replace(place, "")
        });
        assert_eq!(problem.as_deref(), expected, "{name}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_was_changed_is_found() {
    let without = |number: usize| {
        move |text: &str| -> String {
            let lines = text.lines().enumerate();
            let lines = lines.filter(|(index, _)| index + 1 != number);
            lines.map(|(_, line)| format!("{line}\n")).collect()
        }
    };
    check("whole", str::to_owned, None);
    check(
        "changed",
        |text| text.replace("\"two\"", "\"2\""),
        Some("/audit.jsonl:2: line 2 was changed"),
    );
    check(
        "last",
        |text| text.replace("three", "3"),
        Some("/audit.jsonl:3: line 3 was changed"),
    );
    check(
        "taken-out",
        without(2),
        Some("/audit.jsonl:2: line 3 does not follow line 1"),
    );
    check(
        "cut-off",
        without(3),
        Some("the end is missing: line 3 was written last, 2 is there"),
    );
    check(
        "doubled",
        |text| format!("{text}{text}"),
        Some("/audit.jsonl:4: line 1 does not follow line 3"),
    );
    check(
        "other",
        |text| format!("{text}hello\n"),
        Some("/audit.jsonl:4: not a line of the log"),
    );
}

#[test]
fn the_chain_goes_on_over_restarts_and_files() {
    let directory = scratch("files");
    let audit = Audit::open(&directory);
    audit.set_generation(7);
    note(&audit, "one");
    let audit = Audit::open(&directory);
    note(&audit, "two");
    for round in 0..=FILES_MAX {
        audit.put_aside(&mut audit.lock());
        note(&audit, &format!("round {round}"));
    }
    let last = 3 + u64::try_from(FILES_MAX).unwrap();
    let expected = Verdict {
        // The first file is gone, with two lines.
        lines: last - 2,
        first: 3,
        last,
        problem: None,
    };
    assert_eq!(audit.verify(), expected);
    audit.put_aside(&mut audit.lock());
    let audit = Audit::open(&directory);
    note(&audit, "behind");
    let verdict = audit.verify();
    assert_eq!((verdict.last, verdict.problem), (last + 1, None));
    let listed = audit.list(last, 10);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["what"], "behind");
    assert_eq!(audit.list(0, 1).len(), 1);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn without_a_directory_it_says_so() {
    let audit = Audit::open(Path::new("/does/not/exist"));
    note(&audit, "one");
    assert_eq!(audit.list(0, 10).len(), 1);
    assert!(audit.warning().unwrap().contains("/does/not/exist"));
}
