//! What is wrong with a configuration, said so that it can be mended: where, what, what to do.

use std::fmt;
use std::ops::Range;

/// Byte positions in the text.
pub(super) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

impl<T> At<T> {
    pub(super) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The key it is about, with its section: `network.media_ports`. Empty for syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// The line it stands in; the values of secrets are left out.
    pub excerpt: String,
    /// How many characters of the excerpt stand before those that are meant.
    pub indent: usize,
    /// How many are meant, at least one.
    pub width: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = (self.line, self.column);
        let margin = line.to_string().len();
        writeln!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{line} | {}", self.excerpt)?;
        let (indent, carets) = (self.indent, "^".repeat(self.width));
        writeln!(f, "{:margin$} | {:indent$}{carets}", "", "")?;
        write!(f, "{:margin$} = help: {}", "", self.help)
    }
}

/// More problems than this are counted, not listed.
pub const PROBLEMS_MAX: usize = 100;

/// Collects problems while a text is read and checked.
pub(super) struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Problem>,
    more: usize,
}

impl<'a> Problems<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            found: Vec::new(),
            more: 0,
        }
    }

    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    pub(super) fn none(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn add(
        &mut self,
        span: &Span,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.found.len() >= PROBLEMS_MAX {
            self.more += 1;
            return;
        }
        self.found.push(self.one(span, key, message, help));
    }

    /// One that is not collected.
    pub(super) fn one(
        &self,
        span: &Span,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Problem {
        let place = Place::of(self.text, span);
        let (excerpt, indent, width) = place.excerpt(key);
        Problem {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            key: key.to_owned(),
            message: message.into(),
            help: help.into(),
            excerpt,
            indent,
            width,
        }
    }

    /// Whether something was said about this key: then it is there, whatever it is.
    pub(super) fn mentions(&self, key: &str) -> bool {
        self.found.iter().any(|problem| problem.key == key)
    }

    /// The line a span begins in.
    pub(super) fn line(&self, span: &Span) -> usize {
        Place::of(self.text, span).line
    }

    /// In the order of the file.
    pub(super) fn into_vec(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|p| (p.line, p.column));
        if let (Some(last), 1..) = (self.found.last_mut(), self.more) {
            let more = format!(" (and {} more problems after these)", self.more);
            last.message.push_str(&more);
        }
        self.found
    }
}

struct Place<'a> {
    line: usize,
    column: usize,
    /// The whole line, without its end.
    text: &'a str,
    /// Characters meant, on this line.
    width: usize,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, span: &Span) -> Self {
        let start = floor_char_boundary(text, span.start);
        let end = floor_char_boundary(text, span.end.max(start));
        let (before, rest) = text.split_at(start);
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let head = before.get(begin..).unwrap_or("");
        let tail = rest.lines().next().unwrap_or("");
        let line_end = start + tail.len();
        let meant = text.get(start..end.min(line_end)).unwrap_or("");
        Self {
            line: before.matches('\n').count() + 1,
            column: head.chars().count() + 1,
            text: text.get(begin..line_end).unwrap_or(""),
            width: meant.chars().count().max(1),
        }
    }

    /// What is shown of the line, and what of that is meant: characters before it, and its own.
    fn excerpt(&self, key: &str) -> (String, usize, usize) {
        // A longer line is shown from a little before the place on.
        let skipped = match self.column.saturating_sub(EXCERPT_CHARS_BEFORE) {
            skipped if self.text.chars().count() > EXCERPT_CHARS_MAX => skipped,
            _ => 0,
        };
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let rest = self.text.chars().skip(skipped);
        let line: String = rest.take(EXCERPT_CHARS_MAX).map(printable).collect();
        let whole = holds_secret(key, self.text);
        let shown = match (whole, line.split_once('=')) {
            (true, Some((name, _))) if skipped == 0 => format!("{}= …", name),
            (true, _) => "…".to_owned(),
            (false, _) => line,
        };
        let indent = (self.column - 1 - skipped).min(shown.chars().count());
        let room = shown.chars().count().saturating_sub(indent);
        (shown, indent, self.width.min(room).max(1))
    }
}

/// Characters shown of a line, and of those before the place, if the line is longer.
const EXCERPT_CHARS_MAX: usize = 160;
const EXCERPT_CHARS_BEFORE: usize = 40;

/// Whether a line must not be repeated: a mistyped key beside a password is a secret's line too.
fn holds_secret(key: &str, line: &str) -> bool {
    const HARMLESS: [&str; 3] = [
        "sip.account",
        "sip.account.user",
        "sip.account.password_file",
    ];
    let in_account = key.starts_with("sip.account") && !HARMLESS.contains(&key);
    in_account || tells_secret(line)
}

/// Whether a line speaks of a password as one would that holds it.
pub(super) fn tells_secret(line: &str) -> bool {
    const TELLING: [&str; 4] = ["pass", "ha1", "secret", "pwd"];
    let line = line.to_ascii_lowercase().replace("password_file", "");
    TELLING.iter().any(|word| line.contains(word))
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The known word closest to what was written, if one is close enough to be meant.
pub(super) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let longest = written.chars().count().min(NAME_CHARS_MAX);
    known
        .iter()
        .map(|name| (distance(written, name), *name))
        .filter(|(d, name)| *d <= 1 + longest.min(name.len()) / 4)
        .min()
        .map(|(_, name)| name)
}

const NAME_CHARS_MAX: usize = 64;

/// Edits between two words: insert, remove, replace, swap neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(NAME_CHARS_MAX).collect();
    let b: Vec<char> = b.chars().take(NAME_CHARS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX);
            let change = cell(&above, j) + usize::from(x != y);
            let mut best = change.min(cell(&above, j + 1) + 1).min(cell(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(cell(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_if_it_may_be_meant() {
        let known = ["media", "media_ports", "peers", "name", "interface", "dscp"];
        let check = |written, expected| assert_eq!(nearest(written, &known), expected, "{written}");
        check("media_port", Some("media_ports"));
        check("interfcae", Some("interface"));
        check("peer", Some("peers"));
        check("dcsp", Some("dscp"));
        check("mtu", None);
        check("", None);
        check("transport", None);
    }

    #[test]
    fn a_problem_shows_its_line_and_points_at_it() {
        let text = "[sip]\n\tdomain = 5\n";
        let mut problems = Problems::new("t.toml", text);
        let at = text.find('5').unwrap();
        problems.add(&(at..at + 1), "sip.domain", "not text", "quote it");
        let shown = problems.into_vec()[0].to_string();
        let expected =
            "t.toml:2:11: not text\n  |\n2 |  domain = 5\n  |           ^\n  = help: quote it";
        assert_eq!(shown, expected);
    }

    #[test]
    fn of_a_long_line_a_part_is_shown() {
        let text = format!("{}X{}", "-".repeat(1000), "+".repeat(1000));
        let problem = Problems::new("t", &text).one(&(1000..2001), "k", "m", "h");
        assert_eq!((problem.line, problem.column), (1, 1001));
        let expected = format!("{}X{}", "-".repeat(39), "+".repeat(120));
        assert_eq!(problem.excerpt, expected);
        assert_eq!((problem.indent, problem.width), (39, 121));
        let secret = format!("password = \"{}\"", "hunter2".repeat(100));
        let problem = Problems::new("t", &secret).one(&(500..510), "k", "m", "h");
        assert_eq!((problem.excerpt.as_str(), problem.width), ("…", 1));
    }

    #[test]
    fn secrets_are_not_repeated() {
        let check = |line: &str, key: &str, hidden: bool| {
            let text = format!("[[sip.account]]\n{line}\n");
            let mut problems = Problems::new("t", &text);
            problems.add(&(16..16 + line.len()), key, "m", "h");
            let shown = problems.into_vec()[0].to_string();
            assert_eq!(!shown.contains("hunter2"), hidden, "{shown}");
        };
        check("password = \"hunter2\"", "sip.account.password", true);
        check("pasword = \"hunter2\"", "sip.account.pasword", true);
        check("{ user = \"1\", password = \"hunter2\" }", "", true);
        check("password hunter2", "", true);
        check("user = \"hunter2\"", "sip.account.user", false);
        check(
            "password_file = \"hunter2\"",
            "sip.account.password_file",
            false,
        );
    }

    #[test]
    fn spans_out_of_place_do_no_harm() {
        for (start, end) in [(0, 0), (2, 1), (1, 3), (99, 200)] {
            let mut problems = Problems::new("t", "ä\nß");
            problems.add(&Span { start, end }, "", "m", "h");
            assert!(problems.into_vec()[0].width >= 1);
        }
    }
}
