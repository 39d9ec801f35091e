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

/// The pages, by their path below the directory of the handbook.
fn pages() -> BTreeMap<String, String> {
    let below = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let files = [below(&docs()), below(&docs().join(MEASURED))].concat();
    let pages = files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages
        .map(|path| {
            let name = path.strip_prefix(docs()).unwrap().to_str().unwrap();
            (name.to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Where measurements are written.
const MEASURED: &str = "benchmarks";

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
fn every_measurement_is_in_the_chapter_of_them() {
    let pages = pages();
    let linked: BTreeSet<String> = links(&pages["benchmarks.md"]).into_iter().collect();
    let measured = pages
        .keys()
        .filter(|name| name.starts_with(&format!("{MEASURED}/")));
    for name in measured {
        assert!(linked.contains(name), "benchmarks.md: no link to {name}");
        let what = Path::new(name).file_stem().unwrap().to_str().unwrap();
        let command = format!("`cargo xtask bench {what}`");
        assert!(pages["benchmarks.md"].contains(&command), "{command}");
    }
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
            let from = Path::new(name).parent().unwrap();
            let file = match file {
                "" => name.clone(),
                file => from.join(file).to_str().unwrap().to_owned(),
            };
            assert!(docs().join(&file).exists(), "{name}: {link}");
            if heading.is_empty() {
                continue;
            }
            let headings = prose(&pages[&file]).filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
            assert!(anchors.any(|anchor| anchor == heading), "{name}: {link}");
        }
    }
}

/// The command line has a page for each command; so the handbook has at least a word.
#[test]
fn every_command_is_in_the_handbook() {
    let scratch = std::env::temp_dir().join(format!("towpath-pages-{}", std::process::id()));
    fs::create_dir(&scratch).unwrap();
    let written = Command::new(process::binary().unwrap())
        .args(["man", "--dir"])
        .arg(&scratch)
        .status()
        .unwrap();
    assert!(written.success());
    let files = fs::read_dir(&scratch).unwrap();
    let names: BTreeSet<String> = files
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    fs::remove_dir_all(&scratch).unwrap();
    assert!(names.len() > 60, "{}", names.len());
    let pages = pages();
    for name in names {
        let command = name.replace('-', " ");
        let told = pages.values().any(|text| text.contains(&command));
        assert!(told, "no page of the handbook says `{command}`");
    }
}

#[test]
fn every_operation_of_the_api_is_in_the_handbook_with_its_role() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/api/operations.txt");
    let vectors = fs::read_to_string(vectors).unwrap();
    let expected: BTreeSet<Vec<String>> = vectors
        .lines()
        .map(|line| {
            line.split(' ')
                .take(3)
                .map(|word| word.trim_end_matches(':').to_owned())
                .collect()
        })
        .collect();
    let page = &pages()["api.md"];
    let (_, rest) = page.split_once("| operation | role | |\n").unwrap();
    let rows = rest.lines().skip(1).take_while(|row| row.starts_with('|'));
    let found: BTreeSet<Vec<String>> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let operation = cells[0].trim_matches('`').split(' ');
            operation.chain([cells[1]]).map(str::to_owned).collect()
        })
        .collect();
    assert_eq!(found, expected);
}

/// What the tables of messages explain is said somewhere in the sources: what was reworded there is
/// found here.
#[test]
fn messages_that_are_explained_are_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/src");
    let said = one_line(&sources(&root));
    let mut number = 0;
    for (name, text) in pages() {
        let mut lines = text.lines();
        let headings = ["| message |", "| warning |", "| why |"];
        while let Some(line) = lines.next() {
            if !headings.iter().any(|heading| line.starts_with(heading)) {
                continue;
            }
            let rows = lines.by_ref().take_while(|line| line.starts_with('|'));
            for row in rows.skip(1) {
                let (_, message) = row.split_once('|').unwrap();
                let message = message.split('|').next().unwrap();
                for quoted in message.split('`').skip(1).step_by(2) {
                    let parts = quoted.split('…').map(|part| part.trim_matches(PUNCTUATION));
                    let mut parts = parts.filter(|part| !THE_SYSTEMS.contains(part));
                    assert!(parts.all(|part| said.contains(part)), "{name}: {quoted}");
                    number += 1;
                }
            }
        }
    }
    assert!(number > 50, "{number}");
}

/// Around the parts of a message that differ.
const PUNCTUATION: [char; 5] = [' ', ':', ',', '[', ']'];
/// What the system says, not we; and the name of a variable, which is written apart.
const THE_SYSTEMS: [&str; 3] = [
    "Address already in use",
    "Cannot assign requested address",
    "TOWPATH_LOG=",
];

/// Texts of sources without the line ends within them.
fn one_line(sources: &str) -> String {
    let mut parts = sources.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

/// The two say the same: as many headings, the same pictures, pages and commands, in one order.
#[test]
fn the_readme_and_its_translation_are_in_step() {
    let text = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        fs::read_to_string(path).unwrap()
    };
    let (english, chinese) = (text("README.md"), text("README.zh.md"));
    let headings = |text: &str| prose(text).filter(|line| line.starts_with("## ")).count();
    assert_eq!(headings(&english), headings(&chinese));
    let pages_of = |text: &str| -> Vec<String> {
        let parts = text.split("docs/").skip(1);
        let names = parts.map(|part| {
            let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || "-./".contains(c)));
            part[..end.unwrap_or(part.len())].to_owned()
        });
        names.filter(|name| name.contains('.')).collect()
    };
    assert_eq!(pages_of(&english), pages_of(&chinese));
    let typed = |text: &str| -> Vec<String> {
        let blocks = text.split("```").skip(1).step_by(2);
        let lines = blocks.flat_map(|block| block.lines().collect::<Vec<_>>());
        lines
            .map(|line| line.split('#').next().unwrap().trim().to_owned())
            .collect()
    };
    assert_eq!(typed(&english), typed(&chinese));
    for name in pages().keys().filter(|name| !name.contains('/')) {
        let left_out = ["SUMMARY.md", "architecture.md"].contains(&name.as_str());
        let path = format!("docs/{name}");
        assert!(left_out || english.contains(&path), "README.md: {path}");
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
