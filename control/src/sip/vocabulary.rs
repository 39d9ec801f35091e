//! The bridge to rsip and the builders for what we originate.

/// A request method; extension methods are as good as any other (RFC 3261 §7.1).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method<'m> {
    Invite,
    Ack,
    Cancel,
    Bye,
    Register,
    Options,
    Info,
    Update,
    Prack,
    Refer,
    Subscribe,
    Notify,
    Message,
    Publish,
    Other(&'m [u8]),
}

const METHODS: [(Method<'static>, &[u8]); 14] = [
    (Method::Invite, b"INVITE"),
    (Method::Ack, b"ACK"),
    (Method::Cancel, b"CANCEL"),
    (Method::Bye, b"BYE"),
    (Method::Register, b"REGISTER"),
    (Method::Options, b"OPTIONS"),
    (Method::Info, b"INFO"),
    (Method::Update, b"UPDATE"),
    (Method::Prack, b"PRACK"),
    (Method::Refer, b"REFER"),
    (Method::Subscribe, b"SUBSCRIBE"),
    (Method::Notify, b"NOTIFY"),
    (Method::Message, b"MESSAGE"),
    (Method::Publish, b"PUBLISH"),
];

impl<'m> Method<'m> {
    /// Methods are case-sensitive (RFC 3261 §7.1).
    #[must_use]
    pub fn parse(bytes: &'m [u8]) -> Self {
        let known = METHODS.iter().find(|(_, name)| *name == bytes);
        known.map_or(Self::Other(bytes), |&(method, _)| method)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &'m [u8] {
        match *self {
            Self::Invite => b"INVITE",
            Self::Ack => b"ACK",
            Self::Cancel => b"CANCEL",
            Self::Bye => b"BYE",
            Self::Register => b"REGISTER",
            Self::Options => b"OPTIONS",
            Self::Info => b"INFO",
            Self::Update => b"UPDATE",
            Self::Prack => b"PRACK",
            Self::Refer => b"REFER",
            Self::Subscribe => b"SUBSCRIBE",
            Self::Notify => b"NOTIFY",
            Self::Message => b"MESSAGE",
            Self::Publish => b"PUBLISH",
            Self::Other(name) => name,
        }
    }
}
