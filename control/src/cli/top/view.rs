//! The screen of a state, for any terminal: from one cell up, with colours and without.

mod words;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use serde_json::Value;

use super::model::{Over, SORTS, State, list, number, text};
use words::{ago, jitter, percent, short};

/// From here on there is room for more columns.
const WIDE: usize = 100;
/// Lines for cards, at most.
const CARDS_MAX: usize = 6;
/// Lines for events, at most and where there are few lines.
const EVENTS_MAX: usize = 8;
const EVENTS_MIN: usize = 3;
/// Fewer lines than these show calls and nothing else.
const LOW: usize = 12;

/// How things are set off from each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colours: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        match self.colours {
            true => Style::default().fg(colour),
            false => Style::default(),
        }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn warning(self) -> Style {
        self.colour(Color::Yellow)
    }

    fn good(self) -> Style {
        self.colour(Color::Green)
    }

    fn title(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn plain(self) -> Style {
        Style::default()
    }

    fn chosen(self) -> Style {
        Style::default().add_modifier(Modifier::REVERSED)
    }
}

/// Lines of the screen from above, each as wide as it.
struct Page<'b> {
    buffer: &'b mut Buffer,
    area: Rect,
    line: usize,
}

impl Page<'_> {
    fn width(&self) -> usize {
        self.area.width.into()
    }

    fn left(&self) -> usize {
        usize::from(self.area.height).saturating_sub(self.line)
    }

    /// Pieces beside each other; what does not fit is cut off.
    fn put(&mut self, pieces: &[(&str, Style)]) {
        if self.left() == 0 {
            return;
        }
        let (mut x, end) = (self.area.x, self.area.right());
        let y = self.area.y + u16::try_from(self.line).unwrap_or_default();
        for (text, style) in pieces {
            let room = usize::from(end.saturating_sub(x));
            let (after, _) = self.buffer.set_stringn(x, y, text, room, *style);
            x = after;
        }
        self.line += 1;
    }

    fn one(&mut self, text: &str, style: Style) {
        self.put(&[(text, style)]);
    }
}

/// How many lines calls have on a screen of that height.
pub(super) fn rows(state: &State, height: usize) -> usize {
    let plan = Plan::of(state, height);
    plan.calls
}

/// Lines of each part.
struct Plan {
    warnings: usize,
    cards: usize,
    calls: usize,
    events: usize,
}

impl Plan {
    fn of(state: &State, height: usize) -> Self {
        // The head, the title of the calls and the keys are always there.
        let mut rest = height.saturating_sub(3);
        let mut take = |wanted: usize| {
            let got = wanted.min(rest);
            rest -= got;
            got
        };
        if height < LOW {
            return Self {
                warnings: 0,
                cards: 0,
                calls: take(height),
                events: 0,
            };
        }
        let warnings = take(usize::from(!warnings(state).is_empty()));
        let cards = list(&state.bpf, "interfaces").len().min(CARDS_MAX);
        let cards = take(if cards > 0 { cards + 1 } else { 0 });
        let events = match height {
            0..30 => EVENTS_MIN,
            _ => EVENTS_MAX,
        };
        let events = take(events + 1);
        Self {
            warnings,
            cards,
            events,
            calls: take(height),
        }
    }
}

/// The whole screen.
pub(super) fn draw(state: &State, look: Look, buffer: &mut Buffer) {
    let area = *buffer.area();
    let height = usize::from(area.height);
    let plan = Plan::of(state, height);
    let mut page = Page {
        buffer,
        area,
        line: 0,
    };
    head(&mut page, state, look);
    if plan.warnings > 0 {
        page.one(&format!(" ! {}", warnings(state)), look.warning());
    }
    if plan.cards > 0 {
        cards(&mut page, state, look, plan.cards - 1);
    }
    let first = page.line;
    calls(&mut page, state, look, plan.calls);
    page.line = first + 1 + plan.calls;
    if plan.events > 0 {
        events(&mut page, state, look, plan.events - 1);
    }
    page.line = height.saturating_sub(1);
    keys(&mut page, state, look);
    over(buffer, state, look);
}

fn warnings(state: &State) -> String {
    let warnings = list(&state.status, "warnings").iter();
    let warnings: Vec<&str> = warnings.filter_map(Value::as_str).collect();
    match &*warnings {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, others @ ..] => format!("{one} (and {} more: towpath status)", others.len()),
    }
}

fn head(page: &mut Page<'_>, state: &State, look: Look) {
    if let Some(why) = &state.gone {
        let text = format!(" no answer from the daemon, asking again: {why}");
        return page.one(&text, look.bad());
    }
    let status = &state.status;
    if status.is_null() {
        return page.one(" asking the daemon …", look.plain());
    }
    let (word, style) = match text(status, "state") {
        "ok" => ("ok", look.good()),
        "degraded" => ("DEGRADED", look.warning()),
        _ => ("DOWN", look.bad()),
    };
    let calls = status.get("calls").unwrap_or(&Value::Null);
    let (now, answered) = (number(calls, "now"), number(calls, "answered"));
    let bits = short(number(&state.top, "bits_per_s"));
    let uptime = ago(number(status, "uptime_s"));
    let paused = if state.paused { "  PAUSED" } else { "" };
    let drops: u64 = drops(state).iter().map(|(_, _, per_s)| per_s).sum();
    page.put(&[
        (&format!(" {} ", text(status, "node")), look.title()),
        (word, style),
        (paused, look.warning()),
        (
            &format!(
                "  up {uptime}  calls {now} ({answered} answered)  {bits}bit/s  drops {}/s",
                short(drops)
            ),
            look.plain(),
        ),
    ]);
}

/// What the kernel program dropped: verdict, packets, and a second.
fn drops(state: &State) -> Vec<(&str, u64, u64)> {
    let verdicts = list(&state.bpf, "verdicts").iter();
    let drops = verdicts.map(|verdict| {
        let (packets, per_s) = (number(verdict, "packets"), number(verdict, "per_s"));
        (text(verdict, "reason"), packets, per_s)
    });
    let drops = drops.filter(|(reason, ..)| DROPPED.contains(reason));
    drops.collect()
}

/// Verdicts on packets that went no further; the stack or the daemon has the others.
const DROPPED: [&str; 4] = ["wrong-source", "hop-limit", "no-egress", "wrong-interface"];

fn cards(page: &mut Page<'_>, state: &State, look: Look, lines: usize) {
    let title = format!(
        " {:<12} {:<10} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "INTERFACE", "MODE", "IN p/s", "bit/s", "OUT p/s", "bit/s", "LOST/s"
    );
    page.one(&title, look.title());
    for card in list(&state.bpf, "interfaces").iter().take(lines) {
        let rung = text(card, "rung");
        let style = match rung {
            "native" => look.good(),
            "generic" => look.warning(),
            _ => look.plain(),
        };
        let name = format!(" {:<12} ", fitted(text(card, "name"), 12));
        let mode = format!("{rung:<10}");
        let rates = match state.rates.get(text(card, "name")) {
            Some(rates) => format!(
                " {:>8} {:>8} {:>8} {:>8} {:>7}",
                short(rates.rx_packets),
                short(rates.rx_bits),
                short(rates.tx_packets),
                short(rates.tx_bits),
                short(rates.lost)
            ),
            None => format!(" {:>8} {:>8} {:>8} {:>8} {:>7}", "-", "-", "-", "-", "-"),
        };
        page.put(&[
            (&name, look.plain()),
            (&mode, style),
            (&rates, look.plain()),
        ]);
    }
}

fn calls(page: &mut Page<'_>, state: &State, look: Look, lines: usize) {
    let width = page.width();
    let wide = width >= WIDE;
    // What is left beside the other columns is the names'.
    let names = (width.saturating_sub(if wide { 62 } else { 53 }) / 2).clamp(6, 32);
    let path = |text: &str| match wide {
        true => format!(" {text:<8}"),
        false => String::new(),
    };
    let title = format!(
        " {:>6} {:<names$} {:<names$} {:<9} {:>5} {:>7} {:>6} {:>6} {:>6}{}",
        "CALL",
        "FROM",
        "TO",
        "STATE",
        "FOR",
        "bit/s",
        "LOSS%",
        "JIT ms",
        "SILENT",
        path("PATH")
    );
    page.one(&title, look.title());
    if state.calls().is_empty() && lines > 0 {
        let none = match (state.filter.is_empty(), state.top.is_null()) {
            (_, true) => "",
            (true, false) => " no calls",
            (false, false) => " no call matches",
        };
        return page.one(none, look.plain());
    }
    for (index, call) in state.calls().iter().take(lines).enumerate() {
        let optional = |name: &str| call.get(name).and_then(Value::as_u64);
        let line = format!(
            " {:>6} {:<names$} {:<names$} {:<9} {:>5} {:>7} {:>6} {:>6} {:>6}{}",
            number(call, "id"),
            fitted(text(call, "from"), names),
            fitted(text(call, "to"), names),
            fitted(state_word(text(call, "state")), 9),
            ago(number(call, "age_s")),
            short(number(call, "bits_per_s")),
            percent(optional("lost_ppm")),
            jitter(optional("jitter_us")),
            optional("silent_s").map_or_else(|| "-".to_owned(), ago),
            path(by(call)),
        );
        let silent = optional("silent_s").is_some();
        let style = match (index == state.chosen, silent) {
            (true, _) => look.chosen(),
            (false, true) => look.bad(),
            (false, false) => look.plain(),
        };
        page.one(&format!("{line:<width$}"), style);
    }
}

fn state_word(state: &str) -> &str {
    match state {
        "established" => "up",
        "renegotiating" => "re-INVITE",
        other => other,
    }
}

/// Which way its media goes.
fn by(call: &Value) -> &'static str {
    let flows = call.get("flows").unwrap_or(&Value::Null);
    match (number(flows, "kernel"), number(flows, "user")) {
        (0, 0) => "-",
        (0, _) => "user",
        (_, 0) => "kernel",
        (_, _) => "both",
    }
}

fn events(page: &mut Page<'_>, state: &State, look: Look, lines: usize) {
    page.one(" EVENTS", look.title());
    let skip = state.events.len().saturating_sub(lines);
    for event in state.events.iter().skip(skip) {
        let at = text(event, "at");
        let time = at
            .split_once('T')
            .map_or(at, |(_, time)| time.trim_end_matches('Z'));
        let fields = event.get("fields").and_then(Value::as_object);
        let fields = fields.into_iter().flatten();
        let fields =
            fields.map(|(name, value)| format!(" {name}={}", value.as_str().unwrap_or_default()));
        let line = format!(
            " {time} {} {}{}",
            text(event, "kind"),
            text(event, "subject"),
            fields.collect::<String>()
        );
        page.one(&plain(&line), look.plain());
    }
}

fn keys(page: &mut Page<'_>, state: &State, look: Look) {
    if let Some(typed) = &state.typed {
        return page.one(&format!(" filter: {typed}▏"), look.chosen());
    }
    let (_, sort) = SORTS.get(state.sort).copied().unwrap_or_default();
    let arrow = if state.ascending { "▲" } else { "▼" };
    let shown = state.offset + state.calls().len();
    let from = (state.offset + 1).min(shown);
    let filter = match state.filter.as_str() {
        "" => String::new(),
        filter => format!("  filter: {filter}"),
    };
    let text = format!(
        " {from}-{shown} of {}, by {sort} {arrow}{filter}  [s]ort [/]filter [Enter]explain \
         [d]rops [p]ause [?]help [q]uit",
        state.matched()
    );
    page.one(&text, look.title());
}

/// What lies over the calls.
fn over(buffer: &mut Buffer, state: &State, look: Look) {
    let (title, lines, scroll) = match &state.over {
        Over::Nothing => return,
        Over::Help => (
            "keys".to_owned(),
            HELP.lines().map(str::to_owned).collect(),
            0,
        ),
        Over::Drops => ("drops".to_owned(), drop_lines(state), 0),
        Over::Explained { call, text, scroll } => {
            let text = text.as_deref().unwrap_or("asking the daemon …");
            let lines = text.lines().map(plain).collect();
            (format!("call {call}"), lines, *scroll)
        }
    };
    let all = *buffer.area();
    if all.height < 3 || all.width < 3 {
        return;
    }
    let area = Rect::new(all.x, all.y + 1, all.width, all.height - 2);
    for y in area.top()..area.bottom() {
        buffer.set_stringn(
            area.x,
            y,
            " ".repeat(area.width.into()),
            area.width.into(),
            look.plain(),
        );
    }
    buffer.set_style(area, Style::reset());
    let mut page = Page {
        buffer,
        area,
        line: 0,
    };
    page.one(&format!(" {title} (Esc: back)"), look.title());
    for line in lines.iter().skip(scroll) {
        page.one(&format!(" {line}"), look.plain());
    }
}

const HELP: &str = "
s S        sort by the next, by the one before
r          the other way round
/          filter: parties, Call-ID, state; Enter keeps it, Esc leaves it
Esc        no filter any more
↑ ↓ j k    choose a call
PgUp PgDn  further calls
Home       the first ones
Enter      why the chosen call's media goes where it goes
d          packets the kernel program did not forward, by reason
p          pause: the screen stays as it is
q Ctrl-C   quit";

fn drop_lines(state: &State) -> Vec<String> {
    if let Some(why) = state.bpf.get("why").and_then(Value::as_str) {
        return vec![format!("the kernel path is off: {why}")];
    }
    let mut lines = vec![format!(
        "{:<24} {:>12} {:>8}",
        "VERDICT", "PACKETS", "a second"
    )];
    let verdicts = list(&state.bpf, "verdicts").iter();
    lines.extend(verdicts.map(|verdict| {
        let (packets, per_s) = (number(verdict, "packets"), number(verdict, "per_s"));
        format!("{:<24} {packets:>12} {per_s:>8}", text(verdict, "reason"))
    }));
    lines
}

/// At most so many characters, and none that a terminal acts upon.
fn fitted(text: &str, room: usize) -> String {
    let text = plain(text);
    match text.chars().count() > room {
        true => text
            .chars()
            .take(room.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text,
    }
}

fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}
