use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::effect::Effect;
use crate::id::{Listener, Transport};

const LIMIT: Duration = Duration::from_secs(10);

/// A directory of this test's own, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("towpath-store-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn config(&self, sync: Sync) -> config::Store {
        let path = self.0.join("state.redb");
        config::Store { path, sync }
    }

    fn open(&self) -> (Store, Keeper<Effect>, Vec<(String, String)>) {
        let (store, keeper, records) = open(&self.config(Sync::Before));
        (store, keeper, texts(&records))
    }

    fn aside(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "state.redb").collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// As the shard with the registrations does.
fn open(config: &config::Store) -> (Store, Keeper<Effect>, Vec<Kept>) {
    let (store, mut tables) = Store::open(config);
    let keeper = store.keeper(Some(SIP_WAITS));
    let records = tables.remove(&Table::Registrations).unwrap_or_default();
    (store, keeper, records)
}

fn texts(records: &[Kept]) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = records.iter();
    records
        .map(|kept| (text(&kept.key), text(&kept.record.bytes)))
        .collect()
}

fn put(key: &'static str, value: Option<&'static str>) -> Write {
    let record = value.map(|value| Record {
        at: clock::now(),
        bytes: Bytes::from_static(value.as_bytes()),
    });
    let key = Bytes::from_static(key.as_bytes());
    ((Table::Registrations, key), record)
}

fn message(text: &'static str) -> Effect {
    let on = Listener {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
    };
    let to = on.local;
    let bytes = Bytes::from_static(text.as_bytes());
    Effect::Send { on, to, bytes }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    of.iter().map(owned).collect()
}

/// What comes back from the writer.
fn kept<T>(keeper: &mut Keeper<T>) -> Vec<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let kept = async { tokio::time::timeout(LIMIT, keeper.kept()).await };
    runtime.unwrap().block_on(kept).unwrap()
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let scratch = Scratch::new("kill");
    let (store, mut keeper, found) = scratch.open();
    assert_eq!((found, store.is_up()), (pairs(&[]), true));
    let mode = fs::metadata(scratch.0.join("state.redb")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let writes = vec![
        put("a", Some("1")),
        put("b", Some("2")),
        put("c", Some("3")),
    ];
    assert_eq!(keeper.write(writes, vec![message("200")]), []);
    assert_eq!(kept(&mut keeper), [message("200")]);
    let writes = vec![put("a", Some("4")), put("b", None)];
    assert_eq!(keeper.write(writes, vec![message("201")]), []);
    assert_eq!(kept(&mut keeper), [message("201")]);
    assert_eq!(store.counts().kept.load(Ordering::Relaxed), 5);
    // A copy of the file as it lies there now is what a killed daemon leaves.
    let copy = Scratch::new("killed");
    fs::copy(scratch.0.join("state.redb"), copy.0.join("state.redb")).unwrap();
    let (store, _, found) = copy.open();
    assert_eq!(found, pairs(&[("a", "4"), ("c", "3")]));
    assert_eq!((store.warnings(), copy.aside()), (vec![], vec![]));
}

#[test]
fn the_disk_may_follow_behind() {
    let scratch = Scratch::new("behind");
    let (store, mut keeper, _) = open(&scratch.config(Sync::Behind));
    let then = vec![message("200")];
    assert_eq!(keeper.write(vec![put("a", Some("1"))], then.clone()), then);
    // What is left is written at the end.
    store.close();
    let (store, mut keeper, found) = scratch.open();
    assert_eq!(found, pairs(&[("a", "1")]));
    store.set(Sync::Behind);
    assert_eq!(keeper.write(vec![put("a", None)], then.clone()), then);
    store.close();
    assert_eq!(scratch.open().2, []);
}

#[test]
fn times_are_times_of_day() {
    let scratch = Scratch::new("times");
    let (store, mut keeper, _) = scratch.open();
    let then = clock::now().checked_sub(Duration::from_secs(90)).unwrap();
    let record = Record {
        at: then,
        bytes: Bytes::new(),
    };
    let key = (Table::Registrations, Bytes::from_static(b"a"));
    keeper.write(vec![(key, Some(record))], Vec::new());
    store.close();
    let (_, _, records) = open(&scratch.config(Sync::Before));
    let age = records[0].record.at.elapsed();
    let second = Duration::from_secs(1);
    assert!(age.abs_diff(then.elapsed()) < second, "{age:?}");
}

#[test]
fn what_cannot_be_used_is_moved_aside() {
    let check = |name: &str, spoil: &dyn Fn(&Path), why: &str| {
        let scratch = Scratch::new(name);
        let (store, mut keeper, _) = scratch.open();
        keeper.write(vec![put("a", Some("1"))], Vec::new());
        store.close();
        spoil(&scratch.0.join("state.redb"));
        let (store, mut keeper, found) = scratch.open();
        assert_eq!((found, store.is_up()), (vec![], true), "{name}");
        let warnings = store.warnings();
        assert!(warnings[0].contains(why), "{name}: {warnings:?}");
        let aside = scratch.aside();
        assert!(aside[0].starts_with("state.redb.unusable-"), "{aside:?}");
        assert_eq!(aside.len(), 1);
        // The new one works.
        keeper.write(vec![put("b", Some("2"))], Vec::new());
        store.close();
        let (store, _, found) = scratch.open();
        assert_eq!((found, store.warnings()), (pairs(&[("b", "2")]), vec![]));
    };
    let garbage = |path: &Path| fs::write(path, [0x5a; 8192]).unwrap();
    check("garbage", &garbage, "damaged");
    let torn = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..5000]).unwrap();
    };
    check("torn", &torn, "could not be used");
    let newer = |path: &Path| file::renumber(path, 2);
    check("newer", &newer, "its version is 2");
}

#[test]
fn without_a_file_nothing_waits_and_health_says_so() {
    let scratch = Scratch::new("none");
    let mut config = scratch.config(Sync::Before);
    config.path = scratch.0.join("nowhere/state.redb");
    let (store, mut keeper, records) = open(&config);
    assert_eq!((records, store.is_up()), (vec![], false));
    let warnings = store.warnings();
    assert!(warnings[0].contains("No such file"), "{warnings:?}");
    let then = vec![message("200")];
    assert_eq!(keeper.write(vec![put("a", Some("1"))], then.clone()), then);
    store.close();
    assert_eq!(scratch.aside(), [""; 0]);
}

#[test]
fn one_file_is_one_daemons() {
    let scratch = Scratch::new("two");
    let (first, _, _) = scratch.open();
    let (second, _, _) = scratch.open();
    assert_eq!((first.is_up(), second.is_up()), (true, false));
    let warnings = second.warnings();
    assert!(warnings[0].contains("another daemon"), "{warnings:?}");
    assert_eq!(scratch.aside(), [""; 0]);
}

/// A disk that does not answer holds a message for a second, not for ever.
#[test]
fn a_slow_disk_delays_no_answer_for_long() {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        wake: Condvar::new(),
        progress: watch::Sender::default(),
        counts: Counts::default(),
    });
    let store = Store {
        shared: shared.clone(),
        writer: Some(std::thread::spawn(|| ())),
        found: None,
        off: None,
    };
    let mut keeper = store.keeper(Some(SIP_WAITS));
    keeper.write(vec![put("a", Some("1"))], vec![message("1")]);
    assert_eq!(shared.next(None).map(|batch| batch.len()), Some(1));
    keeper.write(vec![put("a", Some("2"))], vec![message("2")]);
    let now = clock::now();
    assert_eq!(keeper.overdue(now), []);
    let late = now + SIP_WAITS;
    assert_eq!(keeper.overdue(late), [message("1"), message("2")]);
    assert_eq!(keeper.overdue(late), []);
    assert_eq!(shared.counts.late.load(Ordering::Relaxed), 2);
    shared.done(None);
    // It fails: nobody waits, and what was not written is written as it is by then.
    keeper.write(vec![put("a", Some("3"))], vec![message("3")]);
    let batch = shared.next(None).unwrap();
    keeper.write(vec![put("a", None)], vec![message("4")]);
    shared.done(Some("full".to_owned()));
    assert_eq!(kept(&mut keeper), [message("3"), message("4")]);
    assert!(store.warnings()[0].ends_with("full") && !store.is_up());
    let then = vec![message("5")];
    assert_eq!(keeper.write(Vec::new(), then.clone()), then);
    shared.lock().closing = true;
    assert!(shared.put_back(batch));
    assert_eq!(
        shared.next(None).unwrap().into_values().collect::<Vec<_>>(),
        [None]
    );
    shared.done(None);
    assert!(store.is_up());
}

/// Each near end has its own order, and what was kept is whose it was.
#[test]
fn several_near_ends_share_the_commits() {
    let scratch = Scratch::new("several");
    let (store, mut first, _) = scratch.open();
    let mut second: Keeper<u32> = store.keeper(None);
    let in_table = |table, (_, record): Write, key: &'static str| {
        ((table, Bytes::from_static(key.as_bytes())), record)
    };
    for (number, key) in (0..).zip(["a", "b", "c"]) {
        let write = in_table(Table::Conferences, put(key, Some("1")), key);
        let held = second.write(vec![write], vec![number]);
        assert!(held.is_empty(), "{held:?}");
        assert_eq!(
            first.write(vec![put(key, Some("2"))], vec![message(key)]),
            []
        );
        // Waits for its turn, though it has nothing to keep.
        let turn = second.write(Vec::new(), vec![number + 10]);
        assert!(turn.is_empty(), "{turn:?}");
    }
    let mut numbers = Vec::new();
    while numbers.len() < 6 {
        numbers.extend(kept(&mut second));
    }
    assert_eq!(numbers, [0, 10, 1, 11, 2, 12]);
    let mut messages = Vec::new();
    while messages.len() < 3 {
        messages.extend(kept(&mut first));
    }
    assert_eq!(messages, ["a", "b", "c"].map(message));
    // What is forgotten before it is written need not be, and nobody waits for ever.
    let write = in_table(Table::Outbox, put("o", Some("3")), "o");
    let held = second.write(vec![write.clone(), (write.0, None)], vec![20]);
    assert!(held.is_empty(), "{held:?}");
    assert_eq!(kept(&mut second), [20]);
    let write = in_table(Table::Outbox, put("p", Some("3")), "p");
    second.write(vec![write], Vec::new());
    store.close();
    let (_, tables) = Store::open(&scratch.config(Sync::Before));
    let tables = tables.iter().map(|(table, kept)| (*table, texts(kept)));
    assert_eq!(
        tables.collect::<Vec<_>>(),
        [
            (
                Table::Registrations,
                pairs(&[("a", "2"), ("b", "2"), ("c", "2")])
            ),
            (
                Table::Conferences,
                pairs(&[("a", "1"), ("b", "1"), ("c", "1")])
            ),
            (Table::Outbox, pairs(&[("p", "3")])),
        ]
    );
}

/// A program that knew registrations alone wrote it.
#[test]
fn an_older_file_is_opened_without_loss() {
    let scratch = Scratch::new("older");
    let (store, mut keeper, _) = scratch.open();
    keeper.write(vec![put("a", Some("1"))], Vec::new());
    store.close();
    file::forget_tables(&scratch.0.join("state.redb"));
    let (store, mut keeper, found) = scratch.open();
    assert_eq!((found, store.warnings()), (pairs(&[("a", "1")]), vec![]));
    let key = (Table::Outbox, Bytes::from_static(b"o"));
    let record = put("", Some("2")).1;
    keeper.write(vec![(key, record)], Vec::new());
    store.close();
    let (_, tables) = Store::open(&scratch.config(Sync::Before));
    assert_eq!(texts(&tables[&Table::Outbox]), pairs(&[("o", "2")]));
}

/// Who has nothing to keep never wakes the writer, and those who have share its commits.
#[test]
fn commits_are_shared() {
    let scratch = Scratch::new("shared");
    let (store, mut keeper, _) = scratch.open();
    for _ in 0..100 {
        let then = vec![message("100")];
        assert_eq!(keeper.write(Vec::new(), then.clone()), then);
    }
    assert_eq!(store.shared.lock().taken, 0);
    let keys = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let begun = clock::now();
    for key in keys {
        let writes = keys.map(|one| put(one, Some(key))).into();
        assert_eq!(keeper.write(writes, vec![message(key)]), []);
        assert_eq!(kept(&mut keeper), [message(key)]);
    }
    let commits = store.counts().commits.load(Ordering::Relaxed);
    let took = clock::now().saturating_duration_since(begun);
    assert!(took >= GATHER * 7 && commits == 8, "{commits} in {took:?}");
}
