use super::*;

/// Three calls: the second is the fastest, the third loses the most, the first is silent.
#[track_caller]
fn check(query: &[(&str, &str)], matched: usize, expected: &[u64]) {
    let calls = [
        (1, "1001", "1002"),
        (2, "Ann", "conf-7"),
        (3, "1003", "ann"),
    ];
    let query = query
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    let wanted = Wanted::of(&query.collect()).unwrap();
    let takes = calls.iter().filter(|(id, from, to)| {
        wanted.finds(*id, &[from, to, "established"])
            || wanted.finds(*id, &[&format!("{id}@phone")])
    });
    let rows = takes.map(|(id, from, to)| Row {
        id: *id,
        state: "established",
        age: Duration::from_secs(*id),
        name: if wanted.sort == Sort::From { from } else { to }.to_string(),
        bits_per_s: [10, 30, 20][usize::try_from(*id).unwrap() - 1],
        lost_ppm: (*id > 1).then_some(*id),
        jitter: (*id < 3).then(|| Duration::from_millis(9 - *id)),
        silent_s: (*id == 1).then_some(5),
        ..Row::default()
    });
    let rows: Vec<Row> = rows.collect();
    let found = rows.len();
    let shown: Vec<u64> = page(rows, &wanted).iter().map(|row| row.id).collect();
    assert_eq!((found, &*shown), (matched, expected), "{wanted:?}");
}

#[test]
fn calls_are_sorted_searched_and_paged() {
    check(&[], 3, &[2, 3, 1]);
    check(&[("sort", "bits_per_s"), ("order", "asc")], 3, &[1, 3, 2]);
    check(&[("sort", "lost_ppm")], 3, &[3, 2, 1]);
    check(&[("sort", "jitter_us")], 3, &[1, 2, 3]);
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
