//! Tables of the parsed text: what is asked for is there and of its type, or that is reported.

use toml::de::{DeTable, DeValue};

use super::{ENTRIES_MAX, KEYS, LATER};
use crate::config::problem::{At, Problems, Span, nearest};

/// A table of the parsed text, with its section's name: `network`, `sip.account`.
pub(super) struct Table<'t, 'i> {
    pub(super) section: &'t str,
    pub(super) at: Span,
    pub(super) table: &'t DeTable<'i>,
}

impl<'i> Table<'_, 'i> {
    fn value(&self, key: &str) -> Option<At<&DeValue<'i>>> {
        let (_, value) = self.table.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(At {
            value: value.get_ref(),
            span: value.span(),
        })
    }

    fn full(&self, key: &str) -> String {
        match self.section {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        }
    }

    pub(super) fn text(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<String>> {
        let found = self.value(key)?;
        let text = found.value.as_str();
        if text.is_none() {
            self.wrong_type(key, &found, "text in quotes", problems);
        }
        Some(At {
            value: text?.to_owned(),
            span: found.span,
        })
    }

    pub(super) fn required(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<String>> {
        if self.value(key).is_none() {
            let section = self.section;
            let message = format!("`{key}` is missing from [[{section}]]");
            problems.add(
                &self.at,
                &self.full(key),
                message,
                missing_help(section, key),
            );
        }
        self.text(key, problems)
    }

    pub(super) fn texts(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
    ) -> Option<At<Vec<At<String>>>> {
        let found = self.value(key)?;
        let Some(list) = found.value.as_array() else {
            self.wrong_type(key, &found, "a list of texts: [\"…\", \"…\"]", problems);
            return None;
        };
        self.bounded(key, &found.span, list.len(), problems);
        let mut texts = Vec::new();
        for entry in list.iter().take(ENTRIES_MAX) {
            let (value, span) = (entry.get_ref(), entry.span());
            match value.as_str() {
                Some(text) => texts.push(At {
                    value: text.to_owned(),
                    span,
                }),
                None => self.wrong_type(key, &At { value, span }, "text in quotes", problems),
            }
        }
        Some(At {
            value: texts,
            span: found.span,
        })
    }

    pub(super) fn integer(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<i64>> {
        let found = self.value(key)?;
        let number = found
            .value
            .as_integer()
            .and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        if number.is_none() {
            self.wrong_type(key, &found, "a whole number, without quotes", problems);
        }
        Some(At {
            value: number?,
            span: found.span,
        })
    }

    pub(super) fn boolean(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<bool>> {
        let found = self.value(key)?;
        let value = found.value.as_bool();
        if value.is_none() {
            self.wrong_type(key, &found, "true or false, without quotes", problems);
        }
        Some(At {
            value: value?,
            span: found.span,
        })
    }

    /// A section that stands once, or not at all.
    pub(super) fn table<T: Default>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
        read: fn(&Table<'_, '_>, &mut Problems<'_>) -> T,
    ) -> T {
        let Some(found) = self.value(key) else {
            return T::default();
        };
        match found.value.as_table() {
            Some(table) => self.enter(key, &found.span, table, problems, read),
            None => {
                self.wrong_type(key, &found, &format!("a section: [{key}]"), problems);
                T::default()
            }
        }
    }

    /// A section that may stand many times.
    pub(super) fn tables<T>(
        &self,
        key: &str,
        problems: &mut Problems<'_>,
        read: fn(&Table<'_, '_>, &mut Problems<'_>) -> T,
    ) -> Vec<T> {
        let Some(found) = self.value(key) else {
            return Vec::new();
        };
        let wanted = format!("a section in double brackets: [[{}]]", self.full(key));
        let Some(list) = found.value.as_array() else {
            self.wrong_type(key, &found, &wanted, problems);
            return Vec::new();
        };
        self.bounded(key, &found.span, list.len(), problems);
        let mut entries = Vec::new();
        for entry in list.iter().take(ENTRIES_MAX) {
            let (value, span) = (entry.get_ref(), entry.span());
            match value.as_table() {
                Some(table) => entries.push(self.enter(key, &span, table, problems, read)),
                None => self.wrong_type(key, &At { value, span }, &wanted, problems),
            }
        }
        entries
    }

    fn enter<T>(
        &self,
        key: &str,
        at: &Span,
        table: &DeTable<'_>,
        problems: &mut Problems<'_>,
        read: fn(&Table<'_, '_>, &mut Problems<'_>) -> T,
    ) -> T {
        let section = self.full(key);
        let table = Table {
            section: &section,
            at: at.clone(),
            table,
        };
        let keys = KEYS.iter().find(|(name, _)| *name == section);
        let mut known = keys.map_or(Vec::new(), |(_, keys)| keys.to_vec());
        let below = format!("{section}.");
        known.extend(
            KEYS.iter()
                .filter_map(|(name, _)| name.strip_prefix(&below)),
        );
        table.refuse_unknown(&known, problems);
        read(&table, problems)
    }

    pub(super) fn refuse_unknown(&self, known: &[&str], problems: &mut Problems<'_>) {
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let full = self.full(name);
            let (message, help) = match (self.section, nearest(name, known)) {
                ("", _) if LATER.contains(&name) => (
                    format!("[{name}] is not available in this version"),
                    "remove the section".to_owned(),
                ),
                ("", Some(near)) => (
                    format!("unknown section `{name}`"),
                    format!("did you mean `{near}`?"),
                ),
                ("", None) => (
                    format!("unknown section `{name}`"),
                    format!("there are: {}", known.join(", ")),
                ),
                (section, Some(near)) => (
                    format!("unknown key `{name}` in [{section}]"),
                    format!("did you mean `{near}`?"),
                ),
                (section, None) => (
                    format!("unknown key `{name}` in [{section}]"),
                    format!("[{section}] has: {}", known.join(", ")),
                ),
            };
            problems.add(&key.span(), &full, message, help);
        }
    }

    fn wrong_type(
        &self,
        key: &str,
        found: &At<&DeValue<'_>>,
        wanted: &str,
        problems: &mut Problems<'_>,
    ) {
        let article = match found.value {
            DeValue::Integer(_) | DeValue::Array(_) => "an",
            DeValue::String(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => "a",
        };
        let message = format!("`{key}` is {article} {}", found.value.type_str());
        problems.add(
            &found.span,
            &self.full(key),
            message,
            format!("write {wanted}"),
        );
    }

    fn bounded(&self, key: &str, span: &Span, count: usize, problems: &mut Problems<'_>) {
        if count > ENTRIES_MAX {
            let message = format!("`{key}` has {count} entries");
            let help = format!("at most {ENTRIES_MAX} are read");
            problems.add(span, &self.full(key), message, help);
        }
    }
}

fn missing_help(section: &str, key: &str) -> &'static str {
    match (section, key) {
        ("sip.account", "user") => "add the user part of its address: user = \"1001\"",
        ("sip.peer", "name") => "add a name you will recognise in logs: name = \"mcu\"",
        ("sip.peer", "uri") => "add where it listens: uri = \"sip:10.0.0.20:5060\"",
        ("network", "name") => "add a name you will recognise in logs: name = \"lan\"",
        ("network", "interface") => "add the network interface: interface = \"eth0\"",
        _ => "add it",
    }
}
