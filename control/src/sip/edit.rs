//! A byte-preserving editor: untouched bytes come out exactly as they came in.
//!
//! Edits are collected against the original message and applied once, in `finish`. When edits
//! overlap, every byte that either of them covers is gone; the later replacement's text stands
//! there, unless one of them was a removal, which beats all replacements made before or after it
//! through `replace`. Only `set` revives a removed header.

use std::ops::Range;

use bytes::Bytes;

use super::index::{Field, Message, Name};

/// A list of changes to one message.
#[derive(Clone, Debug)]
pub struct Edit<'m> {
    message: &'m Message,
    /// In the order of the calls.
    changes: Vec<Change>,
    /// List elements to remove: field index, element index.
    elements: Vec<(usize, usize)>,
    prepended: Vec<Vec<u8>>,
    appended: Vec<Vec<u8>>,
    body: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Change {
    range: Range<usize>,
    with: With,
}

#[derive(Clone, Debug)]
enum With {
    Nothing,
    Text(Vec<u8>),
}

impl With {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Text(text) => text.len(),
        }
    }
}

impl<'m> Edit<'m> {
    #[must_use]
    pub const fn new(message: &'m Message) -> Self {
        Self {
            message,
            changes: Vec::new(),
            elements: Vec::new(),
            prepended: Vec::new(),
            appended: Vec::new(),
            body: None,
        }
    }

    /// Puts other bytes in the place of a range; an empty range inserts. The bytes are written as
    /// they are: line ends in them are the caller's intent.
    pub fn replace(&mut self, range: Range<usize>, with: impl Into<Vec<u8>>) {
        let with = with.into();
        let with = if with.is_empty() && !range.is_empty() {
            With::Nothing
        } else {
            With::Text(with)
        };
        self.change(range, with);
    }

    /// Removes a header field with all its lines.
    pub fn remove_field(&mut self, field: &Field) {
        self.change(field.line.clone(), With::Nothing);
    }

    /// Removes one value of a header, counted over all its fields as [`Message::values`] counts
    /// them, with its comma; the whole line when no value is left on it.
    pub fn remove_value(&mut self, name: Name, index: usize) {
        let mut before = 0;
        for (place, field) in self.message.fields().iter().enumerate() {
            if field.name != name {
                continue;
            }
            let count = self.message.elements(field).len();
            if index < before + count {
                self.elements.push((place, index - before));
                return;
            }
            before += count;
        }
    }

    /// Removes every field of that name.
    pub fn remove_all(&mut self, name: Name) {
        for field in self.message.all(name) {
            self.change(field.line.clone(), With::Nothing);
        }
    }

    /// Makes `value` the only value of that header, in the place of its first field, or after the
    /// last header when there was none. Earlier edits of these fields are forgotten.
    ///
    /// `Other` names no header and is ignored.
    pub fn set(&mut self, name: Name, value: &[u8]) {
        let message = self.message;
        let inside = |range: &Range<usize>, line: &Range<usize>| {
            line.start <= range.start && range.end <= line.end
        };
        for field in message.all(name) {
            self.changes
                .retain(|change| !inside(&change.range, &field.line));
        }
        let fields = message.fields();
        self.elements
            .retain(|(place, _)| fields.get(*place).is_none_or(|f| f.name != name));
        let mut found = message.all(name);
        match found.next() {
            Some(_) if name == Name::Other => {}
            Some(first) => self.change(first.value.clone(), With::Text(one_line(value))),
            None => self.append(name.as_str(), value),
        }
        for further in found.filter(|_| name != Name::Other) {
            self.change(further.line.clone(), With::Nothing);
        }
    }

    /// Adds a line before the first header, and before lines prepended earlier.
    pub fn prepend(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.prepended.push(header_line(name, value.as_ref()));
    }

    /// Adds a line after the last header, and after lines appended earlier.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) {
        if !name.is_empty() {
            self.appended.push(header_line(name, value.as_ref()));
        }
    }

    /// Replaces the body. `Content-Length` follows, as it does for any edit that changes the
    /// length of the body; otherwise it is left as it was.
    pub fn set_body(&mut self, body: Vec<u8>) {
        self.body = Some(body);
    }

    /// The edited message.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.settle_elements();
        let body = self.settle_body();
        let header = self.message.header_range();
        let head = 0..self.message.body_range().start;
        for text in std::mem::take(&mut self.prepended).into_iter().rev() {
            self.change(header.start..header.start, With::Text(text));
        }
        for text in std::mem::take(&mut self.appended) {
            self.change(header.end..header.end, With::Text(text));
        }
        let mut out = self.apply(head, body.len());
        out.extend_from_slice(&body);
        tight(out)
    }

    /// Notes a change, cut at the borders of start line, header and body so that what one part
    /// loses cannot swallow what is inserted at the next.
    fn change(&mut self, range: Range<usize>, with: With) {
        let header = self.message.header_range();
        let body = self.message.body_range();
        let mut start = range.start.min(body.end);
        let end = range.end.min(body.end);
        let mut with = Some(with);
        for border in [header.start, header.end, body.start] {
            if start < border && border < end {
                let text = with.take().unwrap_or(With::Nothing);
                self.changes.push(Change {
                    range: start..border,
                    with: text,
                });
                start = border;
            }
        }
        if start <= end {
            let with = with.unwrap_or(With::Nothing);
            self.changes.push(Change {
                range: start..end,
                with,
            });
        }
    }

    /// Turns removed list elements into removed ranges: a line that keeps an element loses the
    /// others with one comma each, a line that keeps none goes.
    fn settle_elements(&mut self) {
        let mut removed = std::mem::take(&mut self.elements);
        removed.sort_unstable();
        for (place, field) in self.message.fields().iter().enumerate() {
            let lost = |index: usize| removed.binary_search(&(place, index)).is_ok();
            if !removed.iter().any(|(changed, _)| *changed == place) {
                continue;
            }
            let elements = self.message.elements(field);
            let kept = (0..elements.len()).find(|&index| !lost(index));
            let Some(first) = kept.and_then(|index| elements.get(index)) else {
                self.remove_field(field);
                continue;
            };
            let mut end = first.start;
            if let Some(lead) = elements.first().filter(|lead| lead.start < first.start) {
                self.change(lead.start..first.start, With::Nothing);
            }
            for (index, element) in elements.iter().enumerate() {
                if element.start >= first.start && lost(index) {
                    self.change(end..element.end, With::Nothing);
                }
                end = element.end.max(end);
            }
        }
    }

    /// The new body; keeps `Content-Length` true when its length is ours.
    fn settle_body(&mut self) -> Vec<u8> {
        let range = self.message.body_range();
        let given = self.body.take();
        let ours = given.is_some();
        let body = given.unwrap_or_else(|| self.apply(range.clone(), 0));
        if ours || body.len() != range.len() {
            self.set(Name::ContentLength, body.len().to_string().as_bytes());
        }
        body
    }

    /// The bytes of `part` with the changes that lie in it, and room for so many more.
    fn apply(&self, part: Range<usize>, room: usize) -> Vec<u8> {
        // An insertion at the border belongs to the part that begins there.
        let last = part.start == self.message.body_range().start;
        let within = |change: &Change| {
            let (start, end) = (change.range.start, change.range.end);
            part.start <= start && end <= part.end && (start < part.end || last)
        };
        let mut changes: Vec<(usize, &Change)> = self
            .changes
            .iter()
            .enumerate()
            .filter(|(_, change)| within(change))
            .collect();
        changes.sort_by_key(|(_, change)| (change.range.start, change.range.end));
        let more: usize = changes.iter().map(|(_, change)| change.with.len()).sum();
        let mut out = Vec::with_capacity(part.len() + more + room);
        let mut at = part.start;
        let mut changes = changes.into_iter().peekable();
        while let Some((mut order, change)) = changes.next() {
            let mut end = change.range.end;
            let mut with = &change.with;
            while let Some((later, next)) = changes.next_if(|(_, next)| next.range.start < end) {
                end = end.max(next.range.end);
                if next.range.is_empty() || matches!(with, With::Nothing) {
                    continue;
                }
                if matches!(next.with, With::Nothing) || later > order {
                    (order, with) = (later, &next.with);
                }
            }
            out.extend_from_slice(self.message.slice(&(at..change.range.start)));
            if let With::Text(text) = with {
                out.extend_from_slice(text);
            }
            at = end;
        }
        out.extend_from_slice(self.message.slice(&(at..part.end)));
        out
    }
}

/// Without the room that was not needed: messages are kept as long as their repeats may come.
pub(super) fn tight(message: Vec<u8>) -> Bytes {
    Bytes::from(message.into_boxed_slice())
}

/// `Name: value` and a line end.
pub(super) fn header_line(name: &str, value: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(name.len() + value.len() + 4);
    line.extend(name.bytes().map(unfolded));
    line.extend_from_slice(b": ");
    line.extend(value.iter().copied().map(unfolded));
    line.extend_from_slice(b"\r\n");
    line
}

/// The value on one line: folds become spaces, so a value cannot smuggle in a header of its own.
pub(super) fn one_line(value: &[u8]) -> Vec<u8> {
    value.iter().copied().map(unfolded).collect()
}

fn unfolded(byte: u8) -> u8 {
    match byte {
        b'\r' | b'\n' => b' ',
        _ => byte,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "INVITE sip:b@b SIP/2.0\r\n";
    const REST: &str = "f: <sip:a@a>;tag=1\r\nTo: sip:b@b\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n";

    fn message(lines: &str, body: &str) -> Message {
        let text = format!("{HEAD}Via: SIP/2.0/UDP a\r\n{lines}{REST}\r\n{body}");
        Message::parse(Bytes::from(text)).unwrap()
    }

    /// What stands between the Via line and `REST` after the edit; everything else must survive.
    fn check(lines: &str, edit: impl FnOnce(&mut Edit<'_>, &Message), expected: &str) {
        let message = message(lines, "body");
        let mut changes = Edit::new(&message);
        edit(&mut changes, &message);
        let seen = String::from_utf8(changes.finish().to_vec()).unwrap();
        let wanted = format!("{HEAD}Via: SIP/2.0/UDP a\r\n{expected}{REST}\r\nbody");
        assert_eq!(seen, wanted);
    }

    fn range_of(message: &Message, text: &str) -> Range<usize> {
        let bytes = message.bytes();
        let found = bytes
            .windows(text.len())
            .position(|window| window == text.as_bytes());
        found.unwrap()..found.unwrap() + text.len()
    }

    #[test]
    fn values_leave_with_their_commas() {
        fn removing(lines: &str, indices: &[usize], expected: &str) {
            check(
                lines,
                |edit, _| {
                    indices
                        .iter()
                        .for_each(|&index| edit.remove_value(Name::Route, index))
                },
                expected,
            );
        }
        removing(
            "Route: <sip:a>, <sip:b>,<sip:c>\r\n",
            &[0],
            "Route: <sip:b>,<sip:c>\r\n",
        );
        removing(
            "Route: <sip:a>, <sip:b>,<sip:c>\r\n",
            &[1],
            "Route: <sip:a>,<sip:c>\r\n",
        );
        removing(
            "Route: <sip:a>, <sip:b>,<sip:c>\r\n",
            &[2],
            "Route: <sip:a>, <sip:b>\r\n",
        );
        removing(
            "Route: <sip:a>, <sip:b>,<sip:c>\r\n",
            &[0, 1],
            "Route: <sip:c>\r\n",
        );
        removing(
            "Route: <sip:a>, <sip:b>,<sip:c>\r\n",
            &[2, 1],
            "Route: <sip:a>\r\n",
        );
        removing(
            "Route: <sip:a>, <sip:b>,<sip:c>\r\n",
            &[2, 0],
            "Route: <sip:b>\r\n",
        );
        removing("Route: <sip:a>, <sip:b>\r\nX: y\r\n", &[1, 0], "X: y\r\n");
        removing(
            "Route: <sip:a>\r\nroute: <sip:b>\r\n",
            &[1],
            "Route: <sip:a>\r\n",
        );
        removing(
            "Route: <sip:a>,\r\n <sip:b>\r\n",
            &[0],
            "Route: <sip:b>\r\n",
        );
        removing("Route: <sip:a>\r\n", &[1, 7], "Route: <sip:a>\r\n");
        removing("Route: <sip:a>\r\n", &[0, 0], "");
    }

    #[test]
    fn set_leaves_one() {
        let two = "Expires : 1\r\nX: y\r\nexpires:2\r\n";
        check(
            two,
            |edit, _| edit.set(Name::Expires, b"60"),
            "Expires : 60\r\nX: y\r\n",
        );
        check(
            two,
            |edit, _| {
                edit.remove_all(Name::Expires);
                edit.set(Name::Expires, b"60");
                edit.set(Name::Expires, b"70");
            },
            "Expires : 70\r\nX: y\r\n",
        );
        check(two, |edit, _| edit.set(Name::Other, b"60"), two);
    }

    #[test]
    fn lines_are_added_at_both_ends() {
        let message = message("", "");
        let mut edit = Edit::new(&message);
        edit.prepend("Record-Route", "<sip:e;lr>");
        edit.prepend("Via", "SIP/2.0/UDP e\r\nEvil: 1");
        edit.append("X", "1");
        edit.set(Name::Expires, b"2");
        let seen = String::from_utf8(edit.finish().to_vec()).unwrap();
        let wanted = format!(
            "{HEAD}Via: SIP/2.0/UDP e  Evil: 1\r\nRecord-Route: <sip:e;lr>\r\n\
             Via: SIP/2.0/UDP a\r\n{REST}X: 1\r\nExpires: 2\r\n\r\n"
        );
        assert_eq!(seen, wanted);
    }

    #[test]
    fn overlapping_edits() {
        let contact = "Contact: <sip:a@a:5>\r\n";
        let change = |one: &'static str, two: &'static str| {
            move |edit: &mut Edit<'_>, message: &Message| {
                edit.replace(range_of(message, "a@a:5"), one);
                edit.replace(range_of(message, "a:5"), two);
            }
        };
        check(contact, change("x", "y"), "Contact: <sip:y>\r\n");
        check(contact, change("x", ""), "Contact: <sip:>\r\n");
        check(contact, change("", "y"), "Contact: <sip:>\r\n");
        check(
            contact,
            |edit, message| {
                edit.remove_all(Name::Contact);
                edit.replace(range_of(message, "a@a:5"), "back again");
            },
            "",
        );
        check(
            contact,
            |edit, message| {
                let at = range_of(message, "@a:5").start;
                edit.replace(at..at, "1");
                edit.replace(at..at, "2");
                edit.replace(at..at + 2, "3");
            },
            "Contact: <sip:a123:5>\r\n",
        );
        check(
            contact,
            |edit, message| {
                let whole = range_of(message, "a@a:5");
                edit.replace(whole.start + 1..whole.start + 1, "swallowed");
                edit.replace(whole, "z");
            },
            "Contact: <sip:z>\r\n",
        );
    }

    #[test]
    fn the_body_is_counted_when_it_changes() {
        fn length(lines: &str, edit: impl FnOnce(&mut Edit<'_>, &Message)) -> (String, Vec<u8>) {
            let message = message(lines, "body");
            let mut changes = Edit::new(&message);
            edit(&mut changes, &message);
            let edited = Message::parse(changes.finish()).unwrap();
            let length = edited.get(Name::ContentLength).unwrap_or(b"none");
            (
                String::from_utf8(length.to_vec()).unwrap(),
                edited.body().to_vec(),
            )
        }
        let check = |(length, body): (String, Vec<u8>), expected: (&str, &[u8])| {
            assert_eq!((length.as_str(), body.as_slice()), expected);
        };
        check(
            length("l:4\r\n", |edit, _| edit.set_body(vec![0xff; 10])),
            ("10", &[0xff; 10]),
        );
        check(length("", |edit, _| edit.set_body(Vec::new())), ("0", b""));
        check(
            length("", |edit, _| edit.append("X", "y")),
            ("none", b"body"),
        );
        check(length("l: 0004\r\n", |_, _| {}), ("0004", b"body"));
        check(
            length("l: 4\r\n", |edit, message| {
                edit.replace(range_of(message, "od"), "lac")
            }),
            ("5", b"blacy"),
        );
        check(
            length("l: 0004\r\n", |edit, message| {
                edit.replace(range_of(message, "od"), "ab")
            }),
            ("0004", b"baby"),
        );
    }

    #[test]
    fn a_range_across_borders_takes_only_its_bytes() {
        let message = message("l: 4\r\n", "body");
        let mut edit = Edit::new(&message);
        let all = 0..message.bytes().len() + 10;
        edit.replace(all, "X");
        edit.prepend("Via", "v");
        assert_eq!(&edit.finish()[..], b"XVia: v\r\n");
    }

    proptest! {
        /// Bytes outside every edited range come out in order, whatever the edits were.
        #[test]
        fn untouched_bytes_survive(
            edits in proptest::collection::vec((0_usize..220, 0_usize..20, "[!-~]{0,6}"), 0..12),
        ) {
            let message = message("Route: <sip:a>, <sip:b>\r\nX: \u{fc}\r\n", "v=0\r\n");
            let mut edit = Edit::new(&message);
            let mut touched = vec![false; message.bytes().len()];
            for (start, length, with) in edits {
                // A marker no message byte equals, so survivors can be told from replacements.
                let text: Vec<u8> = with.bytes().map(|_| 0).collect();
                let end = (start + length).min(message.body_range().start - 1);
                let start = start.min(end);
                touched[start..end].fill(true);
                edit.replace(start..end, text);
            }
            let out = edit.finish();
            let seen: Vec<u8> = out.iter().copied().filter(|&byte| byte != 0).collect();
            let wanted: Vec<u8> = message.bytes().iter().zip(&touched)
                .filter(|(_, touched)| !**touched).map(|(&byte, _)| byte).collect();
            prop_assert_eq!(seen, wanted);
        }

        #[test]
        fn no_edits_no_change(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let head = format!("{HEAD}v:SIP/2.0/UDP a\n{REST}\r\n");
            let bytes = Bytes::from([head.as_bytes(), &body].concat());
            let message = Message::parse(bytes.clone()).unwrap();
            prop_assert_eq!(Edit::new(&message).finish(), bytes);
        }
    }
}
