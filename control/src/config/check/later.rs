//! What only turns out when the daemon acts on a key: a port is taken, a program is refused. Said
//! like every other problem of the text, at the key that asked for it.

use toml::de::{DeTable, DeValue};

use super::super::problem::{Problem, Problems, Span};

/// A problem at the first of `keys` that is written in `text`, or at its beginning. A key is a path
/// such as `datapath.mode`; a number in it stands for an entry of a list: `network.0.interface`.
#[must_use]
pub fn problem(name: &str, text: &str, keys: &[&str], message: String, help: &str) -> Problem {
    let (root, _) = DeTable::parse_recoverable(text);
    let found = keys
        .iter()
        .find_map(|key| Some((*key, find(root.get_ref(), key)?)));
    let (key, span) = found.unwrap_or(("", 0..0));
    Problems::new(name, text).one(&span, key, message, help)
}

fn find(root: &DeTable<'_>, key: &str) -> Option<Span> {
    let mut parts = key.split('.');
    let first = parts.next()?;
    let (_, mut value) = root.iter().find(|(name, _)| name.get_ref() == first)?;
    for part in parts {
        value = match value.get_ref() {
            DeValue::Table(table) => table.iter().find(|(name, _)| name.get_ref() == part)?.1,
            DeValue::Array(list) => list.get(part.parse::<usize>().ok()?)?,
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => return None,
        };
    }
    Some(value.span())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[sip]\nlisten = ['a',\n 'b']\n[[network]]\nname = 'x'\n[[network]]\n\
                        name = 'y'\ninterface = 'e'\n";

    fn check(keys: &[&str], expected: (usize, usize, &str)) {
        let found = problem("t", TEXT, keys, "m".to_owned(), "h");
        assert_eq!((found.line, found.column, found.excerpt.as_str()), expected);
        assert_eq!((found.message.as_str(), found.help.as_str()), ("m", "h"));
    }

    #[test]
    fn the_first_key_that_is_written_is_pointed_at() {
        check(&["network.1.interface"], (8, 13, "interface = 'e'"));
        check(&["network.0.interface", "sip.listen.1"], (3, 2, " 'b']"));
        check(&["sip"], (1, 1, "[sip]"));
        check(
            &["network.7", "sip.listen.0.x", "sip..", "none"],
            (1, 1, "[sip]"),
        );
    }
}
