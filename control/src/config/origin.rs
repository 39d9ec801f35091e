//! Where each value of a configuration stands, for people who ask why something is as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

/// Places by key: `sip.auth`, `network.wan.peers[0]`, `sip.account.1001.user`.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    file: String,
    lines: Arc<BTreeMap<String, usize>>,
    /// What the command line decided, and by which option.
    options: BTreeMap<String, &'static str>,
}

/// Two configurations are the same wherever their values stand.
impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origins {}

impl Origins {
    pub(super) fn read(text: &str, file: &str, root: &DeTable<'_>) -> Self {
        let mut places = Places {
            begins: line_begins(text),
            lines: BTreeMap::new(),
        };
        places.table("", root);
        Self {
            file: file.to_owned(),
            lines: Arc::new(places.lines),
            options: BTreeMap::new(),
        }
    }

    /// `towpath.toml:17`, or an option of the command line; none is a default.
    pub(super) fn of(&self, key: &str) -> Option<String> {
        let option = self.options.get(key).map(|option| (*option).to_owned());
        let line = || Some(format!("{}:{}", self.file, self.lines.get(key)?));
        option.or_else(line)
    }

    /// The command line overrules what is written.
    pub(super) fn overrule(&mut self, key: &str, option: &'static str) {
        self.options.insert(key.to_owned(), option);
    }
}

struct Places {
    /// Where each line begins.
    begins: Vec<usize>,
    lines: BTreeMap<String, usize>,
}

impl Places {
    fn table(&mut self, at: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let key: &str = key.get_ref();
            let at = match at {
                "" => key.to_owned(),
                at => format!("{at}.{key}"),
            };
            match value.get_ref() {
                DeValue::Array(list) if NAMED.iter().any(|(section, _)| *section == at) => {
                    for (index, entry) in list.iter().enumerate() {
                        let Some(table) = entry.get_ref().as_table() else {
                            continue;
                        };
                        let at = format!("{at}.{}", name(&at, table, index));
                        self.put(&at, entry.span().start);
                        self.table(&at, table);
                    }
                }
                DeValue::Array(list) => {
                    self.put(&at, value.span().start);
                    for (index, entry) in list.iter().enumerate() {
                        self.put(&format!("{at}[{index}]"), entry.span().start);
                    }
                }
                DeValue::Table(table) => {
                    self.put(&at, value.span().start);
                    self.table(&at, table);
                }
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => self.put(&at, value.span().start),
            }
        }
    }

    fn put(&mut self, key: &str, at: usize) {
        let line = self.begins.partition_point(|begin| *begin <= at);
        self.lines.entry(key.to_owned()).or_insert(line);
    }
}

/// Sections that stand many times, and the key that names one.
const NAMED: [(&str, &str); 4] = [
    ("network", "name"),
    ("sip.peer", "name"),
    ("sip.account", "user"),
    ("conference.floor", "id"),
];

fn name(section: &str, table: &DeTable<'_>, index: usize) -> String {
    let naming = NAMED.iter().find(|(name, _)| *name == section);
    let value = naming.and_then(|(_, key)| table.iter().find(|(k, _)| k.get_ref() == key));
    let text = value.and_then(|(_, value)| value.get_ref().as_str());
    text.map_or_else(|| index.to_string(), str::to_owned)
}

fn line_begins(text: &str) -> Vec<usize> {
    let after = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::check::check as read;

    const TEXT: &str = "[sip]\ndomain = 'example.com'\nlisten = [\n  'udp:0.0.0.0:5060',\n  \
                        'udp:0.0.0.0:5070',\n]\n[[sip.account]]\nuser = '1001'\npassword = 'x'\n\
                        [[sip.peer]]\nname = 'mcu'\nuri = 'sip:10.0.0.20'\n\n[[network]]\n\
                        name = 'wan'\ninterface = 'e'\naddress = '10.0.0.3'\n\
                        peers = ['10.0.0.0/8',\n '10.1.0.0/16']\n";

    #[test]
    fn every_written_value_has_its_line() {
        let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let mut config = read("towpath.toml", TEXT, None, &mut none).unwrap();
        let check = |key: &str, line: Option<usize>| {
            let expected = line.map(|line| format!("towpath.toml:{line}"));
            assert_eq!(config.origin(key), expected, "{key}");
        };
        check("sip", Some(1));
        check("sip.domain", Some(2));
        check("sip.listen", Some(3));
        check("sip.listen[1]", Some(5));
        check("sip.listen[2]", None);
        check("sip.auth", None);
        check("sip.account.1001", Some(7));
        check("sip.account.1001.password", Some(9));
        check("sip.peer.mcu.uri", Some(12));
        check("network.wan", Some(14));
        check("network.wan.address", Some(17));
        check("network.wan.peers[0]", Some(18));
        check("network.wan.peers[1]", Some(19));
        check("network.lan.peers", None);
        config.overrule("node.socket", "--socket");
        assert_eq!(config.origin("node.socket").as_deref(), Some("--socket"));
    }

    #[test]
    fn places_are_not_compared() {
        let mut none = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let config = read("a", TEXT, None, &mut none).unwrap();
        let moved = read("b", &format!("\n\n{TEXT}"), None, &mut none).unwrap();
        assert_ne!(config.origin("sip"), moved.origin("sip"));
        assert_eq!(config, moved);
    }
}
