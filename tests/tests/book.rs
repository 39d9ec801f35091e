//! The handbook: every page is in its contents, every link leads somewhere, and what it tells
//! readers to type works as it stands. Needs no root: the commands run in a private network.

#![allow(clippy::panic, reason = "helpers of tests fail the test")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use towpath_tests::private::{in_private_network, ip};
use towpath_tests::process;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The pages, by file name; not those of directories below.
fn pages() -> BTreeMap<String, String> {
    let files = fs::read_dir(docs())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    })
}

/// Where the links of a page lead.
fn links(text: &str) -> Vec<String> {
    let lines: Vec<&str> = prose(text).collect();
    let text = lines.join("\n");
    let ends = text.split("](").skip(1);
    ends.map(|rest| rest.split(')').next().unwrap().to_owned())
        .collect()
}

/// What a heading is called in links.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_page_is_in_the_contents() {
    let mut pages = pages();
    let contents: BTreeSet<String> = links(&pages.remove("SUMMARY.md").unwrap())
        .into_iter()
        .collect();
    let pages: BTreeSet<String> = pages.into_keys().collect();
    assert_eq!(contents, pages);
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    for (name, text) in &pages {
        for link in links(text) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let file = if file.is_empty() { name } else { file };
            assert!(docs().join(file).exists(), "{name}: {link}");
            if heading.is_empty() {
                continue;
            }
            let headings = prose(&pages[file]).filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
            assert!(anchors.any(|anchor| anchor == heading), "{name}: {link}");
        }
    }
}

/// Each row of the trouble book names a check that there is, and a test or a case of one.
#[test]
fn the_trouble_book_is_tried() {
    let page = &pages()["troubleshooting.md"];
    let (_, rest) = page.split_once("## The trouble book\n").unwrap();
    let rows = rest.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    let checks = fs::read_to_string(docs().join("doctor.md")).unwrap();
    let tests = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    let mut number = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, named, tried] = cells[..] else {
            panic!("{row}");
        };
        if let Some((_, id)) = named
            .split_once("`: ")
            .filter(|_| named.starts_with("`doctor"))
        {
            assert!(checks.contains(&format!("\n## {id}\n")), "{row}");
            let found = format!("(\"{id}\", ");
            assert!(tests.contains(&found), "{row}: no test expects {id}");
        }
        let is_case = tests.contains(&format!("\"{tried}\","));
        assert!(is_case || tests.contains(&format!("fn {tried}")), "{row}");
        number += 1;
    }
    assert!(number >= 20, "{number}");
}

/// Every test and every mutant that the table of what breaks names is there.
#[test]
fn what_breaks_is_tested() {
    let root = docs().join("..");
    let page = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let (_, rest) = page.split_once("## What breaks such relays").unwrap();
    let rows: Vec<&str> = rest
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .collect();
    let rows = rows.iter().skip(1).take_while(|line| line.starts_with('|'));
    let mutants = fs::read_to_string(root.join("xtask/src/mutants.rs")).unwrap();
    let mut number = 0;
    for row in rows {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{row}");
        for name in named {
            let is_there = match name.split_once("::") {
                Some((file, test)) => has_test(&root, file, test),
                None => mutants.contains(&format!("name: \"{name}\",")),
            };
            assert!(is_there, "{name}: {row}");
        }
        number += 1;
    }
    assert!(number >= 22, "{number}");
}

/// Whether a source file of that name has that function.
fn has_test(root: &Path, file: &str, test: &str) -> bool {
    let head = format!("fn {test}(");
    let mut left: Vec<PathBuf> = ["common", "control", "tests", "xtask"]
        .map(|package| root.join(package))
        .into();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path
            .file_name()
            .is_some_and(|name| name == format!("{file}.rs").as_str())
            && fs::read_to_string(&path).unwrap().contains(&head)
        {
            return true;
        }
    }
    false
}

/// Everything below a directory of tests.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap();
    let text = entries.map(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path),
            false => fs::read_to_string(&path).unwrap(),
        }
    });
    text.collect()
}

/// The blocks of a page that are to be run, in order.
fn commands(text: &str) -> Vec<&str> {
    let blocks = text.split("```sh test\n").skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn what_readers_are_told_to_type_works() {
    in_private_network("what_readers_are_told_to_type_works", || {
        ip(
            "link add eth1 type veth peer name eth2\nlink set eth1 up\nlink set eth2 up\n\
            address add 10.0.0.3/24 dev eth1",
        )?;
        let binary = process::binary()?;
        let path = format!(
            "{}:{}",
            binary.parent().unwrap().display(),
            std::env::var("PATH")?
        );
        let mut run = 0;
        for (name, text) in pages() {
            let commands = commands(&text);
            if commands.is_empty() {
                continue;
            }
            let directory =
                std::env::temp_dir().join(format!("towpath-book-{}", std::process::id()));
            fs::create_dir(&directory)?;
            // One shell for a page; what it leaves running ends with it.
            let script = format!("set -e\ntrap 'kill $(jobs -p)' EXIT\n{}", commands.concat());
            let output = Command::new("bash")
                .args(["-c", &script])
                .current_dir(&directory)
                .env("PATH", &path)
                .stdin(Stdio::null())
                .output()?;
            let told = [output.stdout, output.stderr].concat();
            assert!(
                output.status.success(),
                "{name}:\n{}",
                String::from_utf8_lossy(&told)
            );
            fs::remove_dir_all(&directory)?;
            run += commands.len();
        }
        assert!(run >= 4, "{run} blocks were run");
        Ok(())
    })
    .unwrap();
}
