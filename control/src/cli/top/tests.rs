use std::time::Instant;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

use super::model::{Order, Over, SORTS, State, Update};
use super::view::{Look, draw, rows};

const PLAIN: Look = Look { colours: false };

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

fn call(id: u64, silent: Value) -> Value {
    json!({
        "id": id, "from": format!("10{id:02}"), "to": "conference-of-the-whole-house-and-garden",
        "state": "established", "age_s": 75, "caller_network": "lan", "callee_network": "wan",
        "flows": { "kernel": 4, "user": 0, "waiting": 0 }, "why": null,
        "bits_per_s": 1_250_000, "lost_ppm": 12_345, "jitter_us": 4_321, "silent_s": silent,
    })
}

fn bpf(packets: u64) -> Value {
    json!({
        "why": null,
        "interfaces": [{
            "name": "eth0", "rung": "native", "rx_packets": packets, "rx_bytes": packets * 200,
            "tx_packets": packets, "tx_bytes": packets * 100, "rx_errors": 0, "rx_dropped": 0,
            "tx_errors": packets / 100, "tx_dropped": 0,
        }],
        "verdicts": [
            { "reason": "forwarded", "packets": 1_000, "per_s": 100 },
            { "reason": "wrong-source", "packets": 30, "per_s": 3 },
        ],
    })
}

fn look(seconds: u64, calls: &[Value], matched: usize) -> Update {
    Update::Look {
        at: start() + std::time::Duration::from_secs(seconds),
        status: json!({
            "node": "edge-01", "state": "degraded", "uptime_s": 7_300,
            "warnings": ["network wan: its address is gone", "another"],
            "calls": { "now": 1_234, "answered": 1_200 },
        }),
        bpf: bpf(seconds * 1_000),
        top: json!({
            "all": 1_234, "matched": matched, "offset": 0, "bits_per_s": 43_000_000, "calls": calls,
        }),
    }
}

/// Two looks, two calls, one event.
fn state() -> State {
    let mut state = State::default();
    let calls = [call(1, Value::Null), call(2, json!(8))];
    state.update(look(1, &calls, 1_234));
    state.update(look(3, &calls, 1_234));
    state.update(Update::Event(json!({
        "seq": 1, "at": "2026-11-23T05:30:00Z", "kind": "call.started", "subject": "7",
        "fields": { "from": "1001", "to": "\u{1b}[2J" },
    })));
    state
}

fn screen(state: &State, width: u16, height: u16, look: Look) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(state, look, frame.buffer_mut()))
        .unwrap();
    terminal
}

fn lines(state: &State, width: u16, height: u16) -> Vec<String> {
    let terminal = screen(state, width, height, PLAIN);
    let cells = terminal.backend().buffer().content();
    let cells: Vec<&str> = cells.iter().map(|cell| cell.symbol()).collect();
    let lines = cells.chunks(width.into());
    lines
        .map(|line| line.concat().trim_end().to_owned())
        .collect()
}

fn press(state: &mut State, key: KeyCode) -> Order {
    state.key(KeyEvent::new(key, KeyModifiers::NONE))
}

fn keys(state: &mut State, text: &str) -> Order {
    let orders = text.chars().map(|c| press(state, KeyCode::Char(c)));
    orders.last().unwrap()
}

#[test]
fn a_terminal_of_eighty_columns() {
    let found = lines(&state(), 80, 24);
    let expected = [
        " edge-01 DEGRADED  up 2h  calls 1234 (1200 answered)  43Mbit/s  drops 3/s",
        " ! network wan: its address is gone (and 1 more: towpath status)",
        " INTERFACE    MODE         IN p/s    bit/s  OUT p/s    bit/s  LOST/s",
        " eth0         native         1.0k     1.6M     1.0k     800k      10",
        "   CALL FROM          TO            STATE       FOR   bit/s  LOSS% JIT ms SILENT",
        "      1 1001          conference-o… up          75s    1.2M   1.23    4.3      -",
        "      2 1002          conference-o… up          75s    1.2M   1.23    4.3     8s",
    ];
    assert_eq!(found[..7], expected, "\n{}", found.join("\n"));
    assert_eq!(found[19], " EVENTS");
    assert_eq!(
        found[20],
        " 05:30:00 call.started 7 from=1001 to=\u{fffd}[2J"
    );
    assert!(found[23].starts_with(" 1-2 of 1234, by bit rate ▼  [s]ort [/]filter"));
    assert_eq!(rows(&state(), 24), 14);
}

#[test]
fn a_wide_terminal_has_more() {
    let found = lines(&state(), 120, 40);
    assert!(found[4].ends_with("SILENT PATH"), "{}", found[4]);
    assert!(found[5].ends_with("- kernel"), "{}", found[5]);
    assert!(
        found[5].contains("conference-of-the-whole-h"),
        "{}",
        found[5]
    );
    assert_eq!(rows(&state(), 40), 25);
    assert_eq!(found[30], " EVENTS");
}

#[test]
fn any_size_will_do() {
    let mut state = state();
    for over in [Over::Nothing, Over::Help, Over::Drops] {
        state.over = over;
        for height in 1..=30 {
            for width in [1, 2, 3, 10, 40, 79, 81, 300] {
                lines(&state, width, height);
            }
        }
    }
    state.over = Over::Nothing;
    let found = lines(&state, 40, 8);
    assert!(found[0].starts_with(" edge-01"), "{found:?}");
    assert!(
        found[2].starts_with("      1 1001"),
        "calls before all else: {found:?}"
    );
    assert!(found[7].starts_with(" 1-2 of"), "{found:?}");
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let colours = |look| {
        let terminal = screen(&state(), 80, 24, look);
        let cells = terminal.backend().buffer().content().to_vec();
        let coloured = |c: &ratatui::buffer::Cell| c.fg != Color::Reset || c.bg != Color::Reset;
        let reversed = cells
            .iter()
            .any(|c| c.modifier.contains(Modifier::REVERSED));
        (cells.iter().any(coloured), reversed)
    };
    assert_eq!(colours(PLAIN), (false, true));
    assert_eq!(colours(Look { colours: true }), (true, true));
}

#[test]
fn a_daemon_that_is_gone_is_named_and_comes_back() {
    let mut state = State::default();
    assert!(lines(&state, 80, 24)[0].contains("asking the daemon"));
    state.update(look(1, &[], 0));
    assert!(lines(&state, 80, 24).contains(&" no calls".to_owned()));
    state.update(Update::Gone("cannot reach the daemon on /x".to_owned()));
    let head = lines(&state, 120, 24)[0].clone();
    assert_eq!(
        head,
        " no answer from the daemon, asking again: cannot reach the daemon on /x"
    );
    state.update(look(2, &[], 0));
    assert!(lines(&state, 80, 24)[0].starts_with(" edge-01"));
}

#[test]
fn keys_decide_what_is_asked() {
    let mut state = state();
    let query = |state: &State| {
        let pairs = state.query().into_iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("&")
    };
    assert_eq!(query(&state), "n=20&offset=0&sort=bits_per_s&order=desc");
    assert_eq!(keys(&mut state, "s"), Order::Look);
    assert_eq!(query(&state), "n=20&offset=0&sort=lost_ppm&order=desc");
    keys(&mut state, "SS");
    assert_eq!(query(&state), "n=20&offset=0&sort=state&order=asc");
    keys(&mut state, "r");
    assert_eq!(query(&state), "n=20&offset=0&sort=state&order=desc");
    press(&mut state, KeyCode::PageDown);
    assert!(query(&state).contains("offset=20"), "{}", query(&state));
    // What is typed counts at once, and from the first call on.
    assert_eq!(keys(&mut state, "/a b"), Order::Look);
    assert!(query(&state).ends_with("offset=0&sort=state&order=desc&q=a%20b"));
    assert!(lines(&state, 80, 24)[23].starts_with(" filter: a b"));
    press(&mut state, KeyCode::Backspace);
    press(&mut state, KeyCode::Backspace);
    press(&mut state, KeyCode::Enter);
    assert!(query(&state).ends_with("q=a"));
    assert_eq!(
        keys(&mut state, "q"),
        Order::Quit,
        "no letter of the filter any more"
    );
    keys(&mut state, "/zzz");
    press(&mut state, KeyCode::Esc);
    assert!(query(&state).ends_with("q=a"), "as it was before");
    press(&mut state, KeyCode::Esc);
    assert!(!query(&state).contains("q="));
    // Every sort is one that the daemon knows: its list is tested against the same names.
    assert_eq!(SORTS.len(), 9);
}

#[test]
fn calls_are_chosen_and_explained() {
    let mut state = state();
    assert_eq!(press(&mut state, KeyCode::Down), Order::Nothing);
    assert_eq!(state.chosen, 1);
    assert_eq!(
        press(&mut state, KeyCode::Down),
        Order::Look,
        "further calls"
    );
    assert_eq!((state.chosen, state.offset), (1, 1));
    assert_eq!(press(&mut state, KeyCode::Home), Order::Look);
    press(&mut state, KeyCode::Down);
    assert_eq!(press(&mut state, KeyCode::Enter), Order::Explain(2));
    assert!(lines(&state, 80, 24)[2].contains("asking the daemon"));
    state.update(Update::Explained(1, Ok("another call".to_owned())));
    state.update(Update::Explained(2, Ok("one\ntwo\nthree".to_owned())));
    assert_eq!(
        lines(&state, 80, 24)[1..5],
        [" call 2 (Esc: back)", " one", " two", " three"]
    );
    press(&mut state, KeyCode::Down);
    assert_eq!(lines(&state, 80, 24)[2], " two");
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.over, Over::Nothing);
    keys(&mut state, "d");
    let drops = lines(&state, 80, 24);
    assert!(drops[4].starts_with(" wrong-source"), "{drops:?}");
    keys(&mut state, "d?");
    assert!(lines(&state, 80, 24)[1].starts_with(" keys"));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.key(interrupt), Order::Quit);
}

#[test]
fn a_pause_keeps_what_is_seen() {
    let mut state = state();
    keys(&mut state, "p");
    state.update(look(4, &[], 0));
    assert_eq!(state.calls().len(), 2);
    assert!(lines(&state, 80, 24)[0].starts_with(" edge-01 DEGRADED  PAUSED  up"));
    keys(&mut state, "p");
    state.update(look(5, &[], 0));
    assert_eq!(state.calls().len(), 0);
}

#[test]
fn a_picture_for_scripts_has_no_empty_lines() {
    let text = super::picture(&state());
    assert!(text.lines().all(|line| !line.trim().is_empty()), "{text}");
    assert!(text.contains("\n      2 1002"), "{text}");
    assert!(!text.contains("[q]uit"), "{text}");
}
