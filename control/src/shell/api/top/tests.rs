use std::time::Duration;

use super::*;
use crate::engine::admin::LegView;
use crate::id::{Listener, Path, Transport};

fn view(id: u64, from: &str, to: &str) -> CallView {
    let at = ([10, 0, 0, 3], 5060).into();
    let on = Listener {
        transport: Transport::Udp,
        local: at,
    };
    CallView {
        id,
        call_id: format!("{id}@phone"),
        from: from.to_owned(),
        to: to.to_owned(),
        state: "established",
        age: Duration::from_secs(id),
        setup: None,
        caller: LegView {
            network: NetworkId(0),
            signalling: Path { on, to: at },
            natted: false,
            target: String::new(),
            media: None,
            ordered: false,
        },
        callee: None,
        branches: Vec::new(),
        flows: Vec::new(),
    }
}

/// Three calls: the second is the fastest, the third loses the most, the first is silent.
#[track_caller]
fn check(query: &[(&str, &str)], matched: usize, expected: &[u64]) {
    let views = [
        view(1, "1001", "1002"),
        view(2, "Ann", "conf-7"),
        view(3, "1003", "ann"),
    ];
    let rows = views.iter().map(|view| Row {
        view,
        bits_per_s: [10, 30, 20][usize::try_from(view.id).unwrap() - 1],
        lost_ppm: (view.id > 1).then_some(view.id),
        silent_s: (view.id == 1).then_some(5),
        kernel: 0,
        user: 0,
        waiting: 0,
        why: None,
    });
    let query = query
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let wanted = Wanted::of(&query.collect()).unwrap();
    let (found, shown) = select(rows.collect(), &wanted);
    let shown: Vec<u64> = shown.iter().map(|row| row.view.id).collect();
    assert_eq!((found, &*shown), (matched, expected), "{wanted:?}");
}

#[test]
fn calls_are_sorted_searched_and_paged() {
    check(&[], 3, &[2, 3, 1]);
    check(&[("sort", "bits_per_s"), ("order", "asc")], 3, &[1, 3, 2]);
    check(&[("sort", "lost_ppm")], 3, &[3, 2, 1]);
    check(&[("sort", "silent_s")], 3, &[1, 2, 3]);
    check(&[("sort", "age_s")], 3, &[3, 2, 1]);
    check(&[("sort", "id"), ("order", "desc")], 3, &[3, 2, 1]);
    check(&[("sort", "from"), ("order", "asc")], 3, &[1, 3, 2]);
    check(&[("sort", "to"), ("order", "asc")], 3, &[1, 3, 2]);
    check(&[("sort", "state")], 3, &[1, 2, 3]);
    check(&[("q", " ANN ")], 2, &[2, 3]);
    check(&[("q", "2@phone")], 1, &[2]);
    check(&[("q", "3")], 1, &[3]);
    check(&[("q", "nobody")], 0, &[]);
    check(&[("n", "1"), ("offset", "1")], 3, &[3]);
    check(&[("n", "2"), ("offset", "2")], 3, &[1]);
    check(&[("offset", "9")], 3, &[]);
}

#[test]
fn odd_questions_are_refused() {
    for (name, value) in [
        ("n", "0"),
        ("n", "201"),
        ("n", "x"),
        ("offset", "-1"),
        ("sort", "beauty"),
        ("order", "up"),
        ("page", "1"),
    ] {
        let query = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(Wanted::of(&query), None, "{name}={value}");
    }
}
