//! The TOML shape: which sections and keys there are, and of what type. Reads the whole text and
//! reports every key it does not know and every value of a wrong type, not only the first, which
//! is why it walks the parsed table instead of deserialising into structs.

use toml::de::{DeTable, DeValue};

use super::problem::{At, Problems, Span, nearest};

/// `[node]`
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) id: Option<At<String>>,
    pub(super) state_dir: Option<At<String>>,
    pub(super) socket: Option<At<String>>,
}

/// `[sip]`
#[derive(Debug, Default)]
pub(super) struct Sip {
    /// The section's header; the file's beginning if there is none.
    pub(super) at: Span,
    pub(super) domain: Option<At<String>>,
    pub(super) listen: Option<At<Vec<At<String>>>>,
    pub(super) auth: Option<At<String>>,
    pub(super) expires_min: Option<At<String>>,
    pub(super) expires_max: Option<At<String>>,
    pub(super) accounts: Vec<Account>,
    pub(super) peers: Vec<Peer>,
}

/// `[[sip.account]]`
#[derive(Debug)]
pub(super) struct Account {
    pub(super) at: Span,
    pub(super) user: Option<At<String>>,
    pub(super) password: Option<At<String>>,
    pub(super) password_file: Option<At<String>>,
    pub(super) ha1_sha256: Option<At<String>>,
}

/// `[[sip.peer]]`
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: Option<At<String>>,
    pub(super) uri: Option<At<String>>,
    pub(super) register: Option<At<String>>,
    pub(super) routes: Option<At<Vec<At<String>>>>,
}

/// `[[network]]`
#[derive(Debug)]
pub(super) struct Network {
    pub(super) at: Span,
    pub(super) name: Option<At<String>>,
    pub(super) interface: Option<At<String>>,
    pub(super) address: Option<At<String>>,
    pub(super) advertise: Option<At<String>>,
    pub(super) peers: Option<At<Vec<At<String>>>>,
    pub(super) source_rewriting_gateways: Option<At<Vec<At<String>>>>,
    pub(super) media_ports: Option<At<String>>,
    pub(super) media: Option<At<String>>,
    pub(super) dscp: Option<At<i64>>,
}

/// `[datapath]`
#[derive(Debug, Default)]
pub(super) struct Datapath {
    pub(super) mode: Option<At<String>>,
    pub(super) xdp: Option<At<String>>,
    pub(super) object: Option<At<String>>,
    pub(super) pin_dir: Option<At<String>>,
    pub(super) flows: Option<At<i64>>,
    pub(super) media_timeout: Option<At<String>>,
}

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) sip: Sip,
    pub(super) networks: Vec<Network>,
    pub(super) datapath: Datapath,
}

/// Every section and its keys. The example file and the handbook are tested against it.
pub(super) const KEYS: [(&str, &[&str]); 6] = [
    ("node", &["id", "state_dir", "socket"]),
    (
        "sip",
        &["domain", "listen", "auth", "expires_min", "expires_max"],
    ),
    (
        "sip.account",
        &["user", "password", "password_file", "ha1_sha256"],
    ),
    ("sip.peer", &["name", "uri", "register", "routes"]),
    (
        "network",
        &[
            "name",
            "interface",
            "address",
            "advertise",
            "peers",
            "source_rewriting_gateways",
            "media_ports",
            "media",
            "dscp",
        ],
    ),
    (
        "datapath",
        &["mode", "xdp", "object", "pin_dir", "flows", "media_timeout"],
    ),
];

/// Sections the handbook speaks of that this version does not have yet.
const LATER: [&str; 4] = ["mqtt", "cascade", "api", "store"];

/// A larger text is refused unread.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of one list or array of tables.
pub const ENTRIES_MAX: usize = 65_536;

impl File {
    /// Reads the text; values that cannot be read are reported and left out. None if it is not
    /// TOML: what else would be said about it follows from that alone.
    pub(super) fn read(text: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("the file is larger than {TEXT_BYTES_MAX} bytes");
            problems.add(&(0..0), "", message, "is this the right file?");
            return None;
        }
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let help = "see https://toml.io for how TOML is written";
            problems.add(&span, "", error.message(), help);
        }
        if !problems.none() {
            return None;
        }
        let root = Table {
            section: "",
            at: 0..0,
            table: root.get_ref(),
        };
        root.refuse_unknown(&["node", "sip", "network", "datapath"], problems);
        Some(Self {
            node: root.table("node", problems, Node::read),
            sip: root.table("sip", problems, Sip::read),
            networks: root.tables("network", problems, Network::read),
            datapath: root.table("datapath", problems, Datapath::read),
        })
    }
}

impl Node {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            id: table.text("id", problems),
            state_dir: table.text("state_dir", problems),
            socket: table.text("socket", problems),
        }
    }
}

impl Sip {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            domain: table.text("domain", problems),
            listen: table.texts("listen", problems),
            auth: table.text("auth", problems),
            expires_min: table.text("expires_min", problems),
            expires_max: table.text("expires_max", problems),
            accounts: table.tables("account", problems, Account::read),
            peers: table.tables("peer", problems, Peer::read),
        }
    }
}

impl Account {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            user: table.required("user", problems),
            password: table.text("password", problems),
            password_file: table.text("password_file", problems),
            ha1_sha256: table.text("ha1_sha256", problems),
        }
    }
}

impl Peer {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            name: table.required("name", problems),
            uri: table.required("uri", problems),
            register: table.text("register", problems),
            routes: table.texts("routes", problems),
        }
    }
}

impl Network {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            at: table.at.clone(),
            name: table.required("name", problems),
            interface: table.required("interface", problems),
            address: table.text("address", problems),
            advertise: table.text("advertise", problems),
            peers: table.texts("peers", problems),
            source_rewriting_gateways: table.texts("source_rewriting_gateways", problems),
            media_ports: table.text("media_ports", problems),
            media: table.text("media", problems),
            dscp: table.integer("dscp", problems),
        }
    }
}

impl Datapath {
    fn read(table: &Table<'_, '_>, problems: &mut Problems<'_>) -> Self {
        Self {
            mode: table.text("mode", problems),
            xdp: table.text("xdp", problems),
            object: table.text("object", problems),
            pin_dir: table.text("pin_dir", problems),
            flows: table.integer("flows", problems),
            media_timeout: table.text("media_timeout", problems),
        }
    }
}

/// A table of the parsed text, with its section's name: `network`, `sip.account`.
struct Table<'t, 'i> {
    section: &'t str,
    at: Span,
    table: &'t DeTable<'i>,
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

    fn text(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<String>> {
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

    fn required(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<String>> {
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

    fn texts(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<Vec<At<String>>>> {
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

    fn integer(&self, key: &str, problems: &mut Problems<'_>) -> Option<At<i64>> {
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

    /// A section that stands once, or not at all.
    fn table<T: Default>(
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
    fn tables<T>(
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
        known.extend(
            (section == "sip")
                .then_some(["account", "peer"])
                .into_iter()
                .flatten(),
        );
        table.refuse_unknown(&known, problems);
        read(&table, problems)
    }

    fn refuse_unknown(&self, known: &[&str], problems: &mut Problems<'_>) {
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
