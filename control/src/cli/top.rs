//! `towpath top`: cards, calls, losses and events as they are, in a terminal or line by line.

mod feed;
mod model;
#[cfg(test)]
mod tests;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::process::ExitCode;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::layout::Rect;
use ratatui::{DefaultTerminal, try_init, try_restore};
use serde_json::json;

use super::client::Client;
use super::output::{self, Format};
use feed::{Feed, Signals, look};
use model::{Order, State, Update};
use view::Look;

/// How often keys and answers are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Calls in a picture for a script.
const BATCH_CALLS: usize = 50;
/// Columns of one.
const BATCH_WIDTH: u16 = 132;

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Plain text, one picture after the other, for scripts and pipes; so is it off a terminal
    #[arg(short, long)]
    batch: bool,
    /// Of --batch: so many pictures [default: until it is ended]
    #[arg(short = 'n', long, value_name = "N", requires = "batch")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
    /// From one look to the next
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = delay)]
    delay: Duration,
}

/// Four times a second at most: the daemon has other things to do.
fn delay(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.25..=3600.0).contains(s));
    let seconds = seconds.ok_or("write 0.25 to 3600, seconds")?;
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) fn top(client: &Client<'_>, what: &Top, format: Format) -> anyhow::Result<ExitCode> {
    let pipe = !(stdout().is_terminal() && stdin().is_terminal());
    if what.batch || pipe || format != Format::Table {
        return batch(client, what, format);
    }
    let look = Look { colours: colours() };
    let signals = Signals::watch()?;
    let terminal = try_init().context("cannot use this terminal; --batch needs none")?;
    let feed = Feed::start(client.socket(), what.delay);
    let shown = live(terminal, &feed, &signals, look);
    // Whatever happened, the terminal is the shell's again.
    let restored = try_restore();
    shown?;
    restored.context("cannot give the terminal back; `reset` does")?;
    Ok(ExitCode::SUCCESS)
}

/// <https://no-color.org>, and terminals that have none.
fn colours() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let term = std::env::var("TERM").unwrap_or_default();
    !set("NO_COLOR") && !matches!(term.as_str(), "" | "dumb" | "vt100" | "vt220")
}

/// Until a key or a signal ends it.
fn live(
    mut terminal: DefaultTerminal,
    feed: &Feed,
    signals: &Signals,
    look: Look,
) -> anyhow::Result<()> {
    let mut state = State::default();
    let mut drawn = false;
    loop {
        if signals.came() {
            return Ok(());
        }
        let changed = take(&feed.updates, &mut state);
        if changed || !drawn {
            let height = terminal.size()?.height;
            state.rows = view::rows(&state, height.into());
            feed.ask(state.query());
            terminal.draw(|frame| view::draw(&state, look, frame.buffer_mut()))?;
            drawn = true;
        }
        if !event::poll(LOOK_EVERY)? {
            continue;
        }
        // Whatever it is, the screen may be another.
        drawn = false;
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match state.key(key) {
                Order::Nothing => {}
                Order::Look => feed.ask_now(state.query()),
                Order::Explain(call) => feed.explain(call),
                Order::Quit => return Ok(()),
            }
        }
    }
}

/// Whether anything came.
fn take(updates: &Receiver<Update>, state: &mut State) -> bool {
    let mut any = false;
    while let Ok(update) = updates.try_recv() {
        state.update(update);
        any = true;
    }
    any
}

fn batch(client: &Client<'_>, what: &Top, format: Format) -> anyhow::Result<ExitCode> {
    let mut state = State {
        rows: BATCH_CALLS,
        ..State::default()
    };
    // A pipe gets one picture unless it asks for more.
    let times = what.iterations.or((!what.batch).then_some(1));
    let mut number = 0;
    let mut seen = None;
    loop {
        number += 1;
        let update = look(client, &state.query())?;
        if let (
            Format::Json | Format::Jsonl,
            Update::Look {
                status, bpf, top, ..
            },
        ) = (format, &update)
        {
            let document = json!({ "status": status, "bpf": bpf, "top": top });
            let text = match format {
                Format::Json => format!("{document:#}\n"),
                Format::Table | Format::Jsonl => format!("{document}\n"),
            };
            output::write(&text)?;
        } else {
            state.update(update);
            seen = feed::events(client, seen, &mut state)?;
            if number > 1 {
                output::write("\n")?;
            }
            output::write(&picture(&state))?;
        }
        if times.is_some_and(|times| number >= times) {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(what.delay);
    }
}

/// The screen as text, with no line that says nothing.
fn picture(state: &State) -> String {
    let lines = state.calls().len() + 20;
    let height = u16::try_from(lines).unwrap_or(u16::MAX).max(40);
    let mut buffer = Buffer::empty(Rect::new(0, 0, BATCH_WIDTH, height));
    view::draw(state, Look { colours: false }, &mut buffer);
    let width = usize::from(BATCH_WIDTH);
    let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    let mut lines: Vec<String> = cells.chunks(width).map(|line| line.concat()).collect();
    // The keys are for terminals.
    lines.pop();
    let lines = lines.iter().map(|line| line.trim_end());
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}
